"""Texts that are ids already."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from typing_extensions import override

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings, tokenizer


@tokenizer("ids")
class Ids(Tokenizer):
    """Texts that were made ids elsewhere, written `17 4 92`: the tokens are the numbers below `vocab_size`."""

    class Config(Settings):
        vocab_size: int = Field(gt=0, description="ids, extra tokens not counted")
        clean: Clean = Field("none", description="what is done to a text first")
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from the vocabulary's size on")
        begin: str | None = Field(None, description="first id of every text, where the texts lack it")
        end: str | None = Field(None, description="last id of every text, where the texts lack it")
        pad: str = Field("0", description="fills up a batch")
        mask: str | None = Field(None, description="stands for a hidden word")

        @model_validator(mode="after")
        def _numbers(self) -> Self:
            for role in ("begin", "end", "pad", "mask"):
                token = getattr(self, role)
                if token is not None and token not in self.tokens and not self.holds(token):
                    raise ValueError(f"{role}: {token!r} is no number from 0 to {self.vocab_size - 1}")
            return self

        def holds(self, token: str) -> bool:
            """Is this token one of the numbers?"""
            return token.isascii() and token.isdigit() and int(token) < self.vocab_size

    config: Config

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Rows that an embedding of these ids needs."""
        size = config.vocab_size + len(config.tokens)
        roles = {role: getattr(config, role) is not None for role in ("mask", "end")}
        return {"vocab_size": size, **roles, "pieces": False}

    @property
    def ready(self) -> bool:
        return True

    @property
    def base_size(self) -> int:
        return self.config.vocab_size

    @override
    def train(self, texts: Iterable[str]) -> None:
        raise UserError("ids has its vocabulary; `wordpiece` and `bpe` learn one from the corpus")

    @override
    def save(self, folder: Path) -> None:
        """Nothing: the vocabulary is the configuration's."""

    @override
    def restore(self, folder: Path) -> None:
        """Nothing: the vocabulary is the configuration's."""

    def pieces(self, text: str) -> list[int]:
        words = text.split()
        wrong = [word for word in words if not self.config.holds(word)]
        if wrong:
            raise UserError(f"{wrong[0]!r} is no id from 0 to {self.base_size - 1}")
        return [int(word) for word in words]

    def joined(self, ids: Sequence[int]) -> str:
        return " ".join(str(number) for number in ids)

    def vocabulary(self) -> Mapping[str, int]:
        return {str(number): number for number in range(self.base_size)}

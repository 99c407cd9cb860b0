"""Any tokenizer of the transformers library."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from typing_extensions import override

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.tokenizer import Tokenizer, rows
from compose_vlp.errors import UserError
from compose_vlp.files import written_path
from compose_vlp.registry import Settings, tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@tokenizer("transformers_tokenizer")
class TransformersTokenizer(Tokenizer):
    """The tokenizer of a folder or a hub name, through `transformers.AutoTokenizer`.

    Its own begin (`cls_token` or `bos_token`), end (`sep_token` or `eos_token`), pad and mask tokens are used where
    the settings name no others.
    """

    class Config(Settings):
        """Settings of the tokenizer."""

        name: str = Field(description="folder with the tokenizer's files, or a name on the Hugging Face hub")
        revision: str | None = Field(None, description="branch, tag or commit on the hub")
        vocab_size: int | None = Field(None, ge=1, description="tokens, extra ones not counted; an assertion")
        clean: Clean = Field("none", description="what is done to a text before the tokenizer has it")
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from the vocabulary's size on")
        begin: str | None = Field(None, description="first token of every text; the tokenizer's own if left out")
        end: str | None = Field(None, description="last token of every text; the tokenizer's own if left out")
        pad: str | None = Field(None, description="fills up a batch; the tokenizer's own if left out")
        mask: str | None = Field(None, description="stands for a hidden word; the tokenizer's own if left out")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._backend: PreTrainedTokenizerBase | None = None

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Rows that an embedding of these tokens needs."""
        return {"vocab_size": TransformersTokenizer(config).vocab_size}

    @property
    def backend(self) -> "PreTrainedTokenizerBase":
        """The library's object, loaded when it is first needed.

        Raises:
            UserError: there is none of that name, or it has another size than asserted.
        """
        if self._backend is None:
            self._set(_load(self.config.name, self.config.revision))
        assert self._backend is not None
        return self._backend

    def _set(self, backend: "PreTrainedTokenizerBase") -> None:
        vocabulary: Mapping[str, int] = backend.get_vocab()
        size = rows(vocabulary)
        if self.config.vocab_size not in (None, size):
            asserted = f"`vocab_size` says {self.config.vocab_size}"
            raise UserError(
                f"tokenizer {self.config.name!r} has {size} ids, and {asserted}", hints=[f"`vocab_size: {size}`"]
            )
        self._backend = backend
        self._vocabulary = vocabulary
        self._rows = size
        self._ids = frozenset(vocabulary.values())
        self._forget_special()

    @property
    def ready(self) -> bool:
        return True

    @property
    def base_size(self) -> int:
        if self.config.vocab_size is not None:
            return self.config.vocab_size
        self.backend  # noqa: B018 - loads the vocabulary where that has not been done
        return self._rows

    def role(self, name: str) -> str | None:
        own = {
            "begin": ("cls_token", "bos_token"),
            "end": ("sep_token", "eos_token"),
            "pad": ("pad_token", "eos_token"),
            "mask": ("mask_token",),
        }[name]
        candidates = [getattr(self.config, name), *(getattr(self.backend, attribute, None) for attribute in own)]
        return next((str(token) for token in candidates if token is not None), None)

    @override
    def train(self, texts: Iterable[str]) -> None:
        raise UserError("transformers_tokenizer has its vocabulary; `wordpiece` and `bpe` learn one from the corpus")

    def pieces(self, text: str) -> list[int]:
        ids: list[int] = self.backend.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def joined(self, ids: Sequence[int]) -> str:
        backend = self.backend
        known = [number for number in ids if number in self._ids]
        text = backend.decode(known, clean_up_tokenization_spaces=False)
        return str(text).strip()

    def vocabulary(self) -> Mapping[str, int]:
        self.backend  # noqa: B018 - loads the vocabulary where that has not been done
        return self._vocabulary

    def save(self, folder: Path) -> None:
        self.backend.save_pretrained(str(folder))

    def restore(self, folder: Path) -> None:
        self._set(_load(str(folder), None))


def _load(name: str, revision: str | None) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    where = str(written_path(name))
    try:
        # Left out, it would ask on a terminal whether a folder's own code may run, and take `y` for an answer.
        return AutoTokenizer.from_pretrained(where, revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:  # a missing name is an OSError, a folder of something else a ValueError
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no tokenizer {name!r}: {reason}", hints=["a folder with its files, or a name on the hub"]
        ) from error

"""Byte-level byte pair encoding."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.fast import FastTokenizer, read_json
from compose_vlp.errors import UserError
from compose_vlp.files import written_path
from compose_vlp.registry import Settings, tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SMALLEST = 300
"""The 256 bytes, the special tokens, and something to learn."""


@tokenizer("bpe")
class BytePairs(FastTokenizer):
    """Byte pairs merged by frequency (Sennrich et al. 2016) over bytes, as GPT-2 has them: no text is unknown.

    With `file` (a `tokenizer.json`) that vocabulary is used. Without it, one of at most `vocab_size` tokens is learnt
    from the corpus.
    """

    class Config(Settings):
        """Settings of the tokenizer."""

        vocab_size: int | None = Field(
            None, ge=SMALLEST, description="tokens, extra ones not counted; with a file: asserted, without: at most"
        )
        file: str | None = Field(None, description="a tokenizer.json; learnt from the corpus if left out")
        clean: Clean = Field("lower", description="what is done to a text first")
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from the vocabulary's size on")
        begin: str | None = Field("<s>", description="first token of every text")
        end: str | None = Field("</s>", description="last token of every text")
        pad: str = Field("<pad>", description="fills up a batch")
        mask: str | None = Field(None, description="stands for a hidden word")

        @model_validator(mode="after")
        def _file_or_size(self) -> Self:
            if self.file is None and self.vocab_size is None:
                raise ValueError("one of file and vocab_size is needed")
            return self

    config: Config

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Rows that an embedding of these tokens needs; the tokens that are known before a corpus is."""
        size: dict[str, Any] = {
            "vocab_size": BytePairs(config).vocab_size,
            "mask": config.mask is not None,
            "end": config.end is not None,
            "pieces": False,
        }
        named = (config.begin, config.end, config.pad, config.mask, *config.tokens)
        return size if config.file else size | {"tokens": tuple(token for token in named if token)}

    @property
    def ready(self) -> bool:
        return self._backend is not None or self.config.file is not None

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import pre_tokenizers
        from tokenizers.trainers import BpeTrainer

        special = dict.fromkeys((self.config.pad, self.config.begin, self.config.end, self.config.mask))
        reserved = [token for token in special if token is not None and token not in self.config.tokens]
        learner = self._around({}, [])
        trainer = BpeTrainer(
            vocab_size=self.base_size,
            min_frequency=2,
            special_tokens=reserved,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        learner.train_from_iterator((self.clean(text) for text in texts), trainer)
        # A new object, since the learner would find the special tokens in what people write, too.
        self._set(self._around(learner.get_vocab(), _merges(learner)), learnt=True)

    def _read(self) -> "Backend":
        if self.config.file is None:
            raise UserError("this bpe tokenizer has no vocabulary yet", hints=["give it a `file`, or train it"])
        return read_json(written_path(self.config.file))

    @staticmethod
    def _around(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "Backend":
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        backend = Backend(models.BPE(vocab=vocabulary, merges=merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        return backend


def _merges(backend: "Backend") -> list[tuple[str, str]]:
    """The merges that a tokenizer learnt, in their order; its JSON alone tells them."""
    import json

    return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]

"""WordPiece, as BERT has it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.fast import FastTokenizer, read_json, read_text
from compose_vlp.errors import UserError
from compose_vlp.files import written_path
from compose_vlp.registry import Settings, tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

ALPHABET = 1000
"""Characters that a learnt vocabulary has at most, at the beginning of words and within them."""


@tokenizer("wordpiece")
class WordPiece(FastTokenizer):
    """Words cut into the longest known pieces, `##` before all but a word's first (BERT's tokenizer).

    With `file` (BERT's `vocab.txt`, or a `tokenizer.json`) that vocabulary is used, and the ids are those of
    `transformers.BertTokenizer`. Without it, one of at most `vocab_size` tokens is learnt from the corpus.
    """

    class Config(Settings):
        """Settings of the tokenizer."""

        vocab_size: int | None = Field(
            None, ge=16, description="tokens, extra ones not counted; with a file: asserted, without: at most so many"
        )
        file: str | None = Field(None, description="vocab.txt or tokenizer.json; learnt from the corpus if left out")
        clean: Clean = Field(
            "lower", description="what is done to a text first; with `lower` accents go too, as in BERT"
        )
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from the vocabulary's size on")
        begin: str | None = Field("[CLS]", description="first token of every text")
        end: str | None = Field("[SEP]", description="last token of every text")
        pad: str = Field("[PAD]", description="fills up a batch")
        mask: str | None = Field("[MASK]", description="stands for a hidden word")
        unknown: str = Field("[UNK]", description="stands for a word with a character that the vocabulary lacks")

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
            "vocab_size": WordPiece(config).vocab_size,
            "mask": config.mask is not None,
            "end": config.end is not None,
            "pieces": True,
        }
        named = (config.begin, config.end, config.pad, config.mask, config.unknown, *config.tokens)
        return size if config.file else size | {"tokens": tuple(token for token in named if token)}

    @property
    def ready(self) -> bool:
        return self._backend is not None or self.config.file is not None

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers.trainers import WordPieceTrainer

        cleaned = [self.clean(text) for text in texts]
        learner = self._around({})
        special = (self.config.pad, self.config.unknown, self.config.begin, self.config.end, self.config.mask)
        reserved = [token for token in dict.fromkeys(special) if token is not None and token not in self.config.tokens]
        trainer = WordPieceTrainer(
            vocab_size=self.base_size,
            min_frequency=2,
            special_tokens=[*reserved, *_continuing(learner, cleaned)],
            limit_alphabet=ALPHABET,
            show_progress=False,
        )
        learner.train_from_iterator(cleaned, trainer)
        # A new object, since the learner would find the special tokens in what people write, too.
        self._set(self._around(learner.get_vocab()), learnt=True)

    def _read(self) -> "Backend":
        if self.config.file is None:
            raise UserError("this wordpiece tokenizer has no vocabulary yet", hints=["give it a `file`, or train it"])
        if self.config.file.endswith(".json"):
            return read_json(written_path(self.config.file))
        # As BERT's own code counts: a line is an id, and a token that stands there twice has the last of its lines.
        tokens = read_text(written_path(self.config.file)).removesuffix("\n").split("\n")
        tokens = [token.removesuffix("\r") for token in tokens]
        if self.config.unknown not in tokens:
            raise UserError(f"{self.config.file} has no line {self.config.unknown!r}: is it BERT's vocab.txt?")
        return self._around({token: number for number, token in enumerate(tokens)})

    def _around(self, vocabulary: dict[str, int]) -> "Backend":
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        backend = Backend(models.WordPiece(vocab=vocabulary, unk_token=self.config.unknown))
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.config.clean == "lower")
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(cleanup=False)
        return backend


def _continuing(backend: "Backend", texts: Iterable[str]) -> list[str]:
    """The characters that stand within words, as `##x`.

    The library numbers them as it comes upon them in a hash table, in another order in every process, and what is
    learnt depends on the numbers. Handed in beforehand, they are numbered in order.
    """
    words = Counter(word for text in texts for word in text.split())
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for piece, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word)):
            for character in piece[1:]:
                characters[character] += count
    frequent = sorted(characters, key=lambda character: (-characters[character], character))[:ALPHABET]
    return [f"##{character}" for character in sorted(frequent)]

"""SentencePiece, its ids laid out as XLM-R's."""

import importlib
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic import Field
from typing_extensions import override

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.errors import UserError
from compose_vlp.files import is_file, written_path
from compose_vlp.registry import Settings, tokenizer

FILE: Final = "sentencepiece.model"
FIRST: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""The first tokens. A file's pieces begin with `<unk>`, `<s>` and `</s>`; others have their number there and one."""
MASK: Final = "<mask>"
"""The last token, which files lack."""
UNKNOWN: Final = FIRST.index("<unk>")


@tokenizer("sentencepiece")
class SentencePiece(Tokenizer):
    """Texts cut into pieces that may hold spaces (Kudo and Richardson 2018), with the ids of XLM-R's tokenizer.

    `<s>` is 0, `<pad>` 1, `</s>` 2, `<unk>` 3, a piece of the file its number there and one, and `<mask>` comes last;
    so BEiT-3 reads `beit3.spm`. Texts are normalised by the file's own rules and by nothing else; special tokens that
    people write are words. Without `file`, pieces are learnt from the corpus. The library is an extra of its own:
    `pip install 'compose-vlp[sentencepiece]'`.
    """

    class Config(Settings):
        """Settings of the tokenizer."""

        vocab_size: int | None = Field(
            None,
            ge=16,
            description="rows of an embedding, extra tokens not counted; the tokens, of which a file may "
            "have fewer, if left out",
        )
        file: str | None = Field(None, description="a model of SentencePiece; learnt from the corpus if left out")
        clean: Clean = Field("none", description="what is done to a text first")
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from `vocab_size` on")
        begin: str | None = Field("<s>", description="first token of every text")
        end: str | None = Field("</s>", description="last token of every text")
        pad: str = Field("<pad>", description="fills up a batch")
        mask: str | None = Field(MASK, description="stands for a hidden word")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._model: Any = None

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Rows that an embedding of these tokens needs."""
        roles = {role: getattr(config, role) is not None for role in ("mask", "end")}
        return {"vocab_size": SentencePiece(config).vocab_size, **roles, "pieces": False}

    @property
    def model(self) -> Any:
        """The library's object, read when it is first needed.

        Raises:
            UserError: there is no vocabulary yet, or its file is missing, broken, of another layout or too large.
        """
        if self._model is None:
            if self.config.file is None:
                raise UserError("this sentencepiece tokenizer has no vocabulary yet", hints=["give it a `file`"])
            self._set(written_path(self.config.file), self.config.file)
        return self._model

    def _set(self, file: Path, name: str) -> None:
        if not is_file(file):
            raise UserError(f"no vocabulary file {name!r}", hints=[f"looked from {Path.cwd()}"])
        self._take(file.read_bytes(), name)

    def _take(self, content: bytes, name: str) -> None:
        try:  # an empty file is a model without pieces, of which the library complains on the screen
            model = _library().SentencePieceProcessor(model_proto=content) if content else None
        except RuntimeError as error:
            raise UserError(f"{name} is no model of SentencePiece") from error
        if model is None or not len(model):
            raise UserError(f"{name} is no model of SentencePiece: it has no pieces")
        if [model.id_to_piece(number) for number in range(min(len(model), 3))] != ["<unk>", "<s>", "</s>"]:
            raise UserError(
                f"{name} does not begin with the pieces <unk>, <s> and </s>, as those of XLM-R and BEiT-3 do",
                hints=["`use: transformers_tokenizer` reads tokenizers of other layouts"],
            )
        count, asserted = len(model) + 2, self.config.vocab_size  # with the pad and mask tokens
        if asserted is not None and count > asserted:
            raise UserError(
                f"{name} has {count} tokens, and `vocab_size` says {asserted}", hints=[f"`vocab_size: {count}`"]
            )
        self._model = model
        self._forget_special()

    @property
    def ready(self) -> bool:
        if self._model is None and self.config.file is None:
            _library()  # else it would be missed only when words are learnt
        return self._model is not None or self.config.file is not None

    @property
    def base_size(self) -> int:
        return self.config.vocab_size if self.config.vocab_size is not None else len(self.model) + 2

    @property
    @override
    def highest_id(self) -> int:
        return self.vocab_size - 1 if self.config.tokens else len(self.model) + 1

    @override
    def train(self, texts: Iterable[str]) -> None:
        """Learn at most `vocab_size` tokens as the library does by itself (a unigram model, on one thread).

        Each word is learnt once more by itself: the library begins with what is followed by different signs, so that in
        a small corpus a word after which a space always comes would be cut into letters.
        """
        learnt = io.BytesIO()
        cleaned = [cleaned for text in texts if (cleaned := self.clean(text)).strip()]
        words = dict.fromkeys(word for text in cleaned for word in text.split())
        try:
            _library().SentencePieceTrainer.train(
                sentence_iterator=chain(cleaned, words),
                model_writer=learnt,
                vocab_size=(self.config.vocab_size or LEARNT) - 2,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise UserError(f"no pieces can be learnt of {len(cleaned)} texts: {error}") from error
        self._take(learnt.getvalue(), "what was learnt")

    def pieces(self, text: str) -> list[int]:
        return [number + 1 if number else UNKNOWN for number in self.model.encode(text)]

    def joined(self, ids: Sequence[int]) -> str:
        words = [0 if number == UNKNOWN else number - 1 for number in ids if UNKNOWN <= number <= len(self.model)]
        text: str = self.model.decode(words)
        return text.strip()

    def vocabulary(self) -> Mapping[str, int]:
        count = len(self.model)
        pieces = {self.model.id_to_piece(number): number + 1 for number in range(3, count)}
        return {**pieces, **{token: number for number, token in enumerate(FIRST)}, MASK: count + 1}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(self.model.serialized_model_proto())

    def restore(self, folder: Path) -> None:
        self._set(folder / FILE, str(folder / FILE))


LEARNT: Final = 8000
"""Tokens that are learnt where nobody says how many."""


def _library() -> Any:
    """The library, which is untyped.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("sentencepiece")
    except ModuleNotFoundError as error:
        hints = ["uv pip install 'compose-vlp[sentencepiece]'"]
        raise UserError("the tokenizer `sentencepiece` needs the library of this name", hints=hints) from error

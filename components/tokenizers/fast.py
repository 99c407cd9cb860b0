"""Tokenizers that run on the `tokenizers` library: its objects hold the vocabulary, and its JSON stores it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose_vlp.components.tokenizers.tokenizer import Tokenizer, rows
from compose_vlp.errors import UserError
from compose_vlp.files import decoded, is_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

FILE = "tokenizer.json"


class FastTokenizer(Tokenizer):
    """A tokenizer whose vocabulary is an object of the `tokenizers` library, read when it is first needed."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._backend: Backend | None = None

    @abstractmethod
    def _read(self) -> "Backend":
        """The vocabulary of the file that the settings name."""

    @property
    def backend(self) -> "Backend":
        """The library's object.

        Raises:
            UserError: there is no vocabulary yet, or its file is missing, broken or of another size than asserted.
        """
        if self._backend is None:
            self._set(self._read())
        assert self._backend is not None
        return self._backend

    def _set(self, backend: "Backend", *, learnt: bool = False) -> None:
        """Take a vocabulary. One that was learnt may be smaller than asserted, one from a file may not."""
        size, asserted = rows(backend.get_vocab()), self.config.vocab_size
        if asserted is not None and (size > asserted or (size < asserted and not learnt)):
            raise UserError(
                f"the vocabulary has {size} ids, and `vocab_size` says {asserted}", hints=[f"`vocab_size: {size}`"]
            )
        self._backend = backend
        self._vocabulary: Mapping[str, int] = backend.get_vocab()
        self._rows = size
        self._forget_special()

    @property
    def base_size(self) -> int:
        asserted: int | None = self.config.vocab_size
        if asserted is not None:
            return asserted
        self.backend  # noqa: B018 - reads the vocabulary where that has not been done
        return self._rows

    def pieces(self, text: str) -> list[int]:
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def joined(self, ids: Sequence[int]) -> str:
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text.strip()

    def vocabulary(self) -> Mapping[str, int]:
        self.backend  # noqa: B018 - reads the vocabulary where that has not been done
        return self._vocabulary

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(self.backend.to_str(), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        self._set(read_json(folder / FILE), learnt=True)


def read_json(file: Path) -> "Backend":
    """The tokenizer of a `tokenizer.json`.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    from tokenizers import Tokenizer as Backend

    text = read_text(file)
    try:
        return Backend.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{file} is no tokenizer.json: {error}") from error


def read_text(file: Path) -> str:
    """The text of a vocabulary file.

    Raises:
        UserError: it is missing, or not UTF-8.
    """
    if not is_file(file):
        raise UserError(f"no vocabulary file {str(file)!r}", hints=[f"looked from {Path.cwd()}"])
    try:
        return decoded(file.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text in UTF-8: {error}") from error

"""What every tokenizer offers; a kind of tokenizer adds how its vocabulary is read, learnt and stored."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from compose_vlp.components.tokenizers.cleaning import CLEANERS
from compose_vlp.errors import UserError, did_you_mean

LETTERS = 32
"""Of a text of more letters for each token that is kept, only the beginning is looked at, where that gives enough."""


class Tokenizer(ABC):
    """Text to ids and back.

    Ids are laid out so that they never depend on the corpus: the vocabulary proper has ids below its asserted size
    (one that was learnt may fill fewer), and the extra `tokens` follow from that size on. `vocab_size` counts both: it
    is the number of rows that an embedding needs, and every id is below it.

    A `Config` has at least `vocab_size`, `tokens`, `begin`, `end`, `pad`, `mask` and `clean`.
    """

    kind_name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any) -> None:
        self.config = config
        self.clean = CLEANERS[config.clean]
        self._special: dict[str, int] | None = None

    # --- what a kind of tokenizer adds ------------------------------------------------------------------------

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Say whether there is a vocabulary: a file of one was named, or it has been learnt or restored."""

    @property
    @abstractmethod
    def base_size(self) -> int:
        """The asserted size of the vocabulary, extra tokens not counted: its greatest id and one."""

    @abstractmethod
    def train(self, texts: Iterable[str]) -> None:
        """Learn a vocabulary from texts; the same texts in the same order give the same vocabulary."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the vocabulary into a folder, from which `restore` has it again."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Read what `save` wrote."""

    @abstractmethod
    def pieces(self, text: str) -> list[int]:
        """Ids of a cleaned text, without begin and end."""

    @abstractmethod
    def joined(self, ids: Sequence[int]) -> str:
        """The text of ids of the vocabulary proper."""

    @abstractmethod
    def vocabulary(self) -> Mapping[str, int]:
        """The vocabulary proper."""

    def role(self, name: str) -> str | None:
        """The token that stands for `begin`, `end`, `pad` or `mask`, None where there is none."""
        token: str | None = getattr(self.config, name)
        return token

    # --- what all have ----------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Rows of an embedding: every id is below it."""
        return self.base_size + len(self.config.tokens)

    @property
    def highest_id(self) -> int:
        """The greatest id of a token, where an embedding may have more rows."""
        return self.vocab_size - 1

    def encode(self, text: str, max_length: int, *, end: bool = True) -> list[int]:
        """At most `max_length` ids; the begin and end tokens are among them, and the end stays when words are cut.

        `end=False` leaves the end token out.
        """
        begin, last = self.begin_id, self.end_id if end else None
        head, tail = [] if begin is None else [begin], [] if last is None else [last]
        room = max(0, max_length - len(head) - len(tail))
        ids = self.pieces(self.clean(_beginning(text, LETTERS * max_length)))
        if len(ids) <= room and len(text) > LETTERS * max_length:
            ids = self.pieces(self.clean(text))
        if ids and max(ids) >= self.base_size:
            raise UserError(f"the tokenizer gives the id {max(ids)}, and its vocabulary ends at {self.base_size - 1}")
        return [*head, *ids[:room], *tail][:max_length]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first end token; begin, pad and ids without a token leave no trace."""
        silent = {self.begin_id, self.pad_id}
        words: list[int] = []
        parts: list[str] = []
        extra = {number: token for token, number in self.special.items() if number >= self.base_size}
        for number in ids:
            if number == self.end_id:
                break
            if number in extra:
                parts += [self.joined(words), extra[number]]
                words = []
            elif number not in silent:
                words.append(number)
        return " ".join(filter(None, (*parts, self.joined(words))))

    def id_of(self, token: str) -> int:
        """The id of a token.

        Raises:
            UserError: the vocabulary lacks it.
        """
        number = self.special.get(token, self.vocabulary().get(token))
        if number is None:
            known = [*self.special, *self.vocabulary()]
            hints = (*did_you_mean(token, known), f"`tokens: [{token!r}]` adds it")
            raise UserError(f"the tokenizer has no token {token!r}", hints=hints)
        return number

    @property
    def special(self) -> Mapping[str, int]:
        """Ids of the begin, end, pad, mask and extra tokens."""
        if self._special is None:
            self._special = self._find_special()
        return self._special

    @property
    def begin_id(self) -> int | None:
        """The id that every text begins with."""
        return self._role_id("begin")

    @property
    def end_id(self) -> int | None:
        """The id that every text ends with."""
        return self._role_id("end")

    @property
    def mask_id(self) -> int | None:
        """The id that stands for a hidden word."""
        return self._role_id("mask")

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch."""
        number = self._role_id("pad")
        if number is None:
            raise UserError("this tokenizer has no pad token", hints=["`pad:` names one of its tokens"])
        return number

    def _role_id(self, name: str) -> int | None:
        token = self.role(name)
        return None if token is None else self.special[token]

    def _find_special(self) -> dict[str, int]:
        vocabulary = self.vocabulary()
        extra = {token: self.base_size + place for place, token in enumerate(self.config.tokens)}
        for token in extra:
            if token in vocabulary:
                raise UserError(f"the vocabulary has {token!r} already", hints=["leave it out of `tokens`"])
        special = dict(extra)
        for name in ("begin", "end", "pad", "mask"):
            token = self.role(name)
            if token is not None and token not in special:
                if token not in vocabulary:
                    hints = (*did_you_mean(token, vocabulary), f"`tokens: [{token!r}]` adds it")
                    raise UserError(f"the vocabulary has no token {token!r}, which is the `{name}` token", hints=hints)
                special[token] = vocabulary[token]
        return special

    def _forget_special(self) -> None:
        self._special = None


def rows(vocabulary: Mapping[str, int]) -> int:
    """Rows of an embedding of a vocabulary. Ids may be left out, and a token that is listed twice counts twice."""
    return max(vocabulary.values(), default=-1) + 1


def _beginning(text: str, letters: int) -> str:
    """Whole words of so many letters at most: what follows does not change their ids. All of it, if it is one word."""
    if len(text) <= letters:
        return text
    words = text[:letters].rstrip()
    cut = max(words.rfind(" "), words.rfind("\n"))
    return words[:cut] if cut > 0 else text

"""What a source of data is: so many records, each to be had by its number, at any time and in any process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from reprlib import Repr
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.registry import get, names

Record: TypeAlias = Mapping[str, Any]
"""One record: values by field name, as the inputs of a blueprint read them.

=========  ==========================================================================================================
read as    may be
=========  ==========================================================================================================
an image   the path of a picture file, what one holds (bytes, `Encoded`), `{bytes, path}` as the `datasets` library
           has it, a PIL image, or pixels in an array, tensor or lists (`compose_vlp.data.pixels`); of a list of these,
           one is drawn in training, the first is taken elsewhere
a text     a string, or a list of strings (one is drawn in training, the first is taken elsewhere)
`many`     a list of strings (equal ones count as often as they stand there), or strings with their weights
an id      a whole number or a string
a label    the number of a class, a truth value, or a name among the input's `classes`; either as text too, as tables
           have them; of data that names its classes, `ClassNumber`
a number   a number, or the text of one
=========  ==========================================================================================================

Any value may instead be a function without arguments that gives it: it is called only where an input reads the field.
"""


SKIP_LIMIT = 0.05
"""Share of a source's records that may be broken, where nothing else is said."""


class Encoded(NamedTuple):
    """What a picture file holds; `name` says in messages where it came from."""

    data: bytes
    name: str


class ClassNumber(int):
    """The number of a class, of data that names its classes: `names[number]`."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, number: int, names: tuple[str, ...]) -> ClassNumber:
        """That number among these names."""
        made = cls(number)
        made.names = names
        return made


class Part(NamedTuple):
    """A part of a mixture: `records` of it from `first` on, of which an epoch has `each_epoch`."""

    name: str
    first: int
    records: int
    each_epoch: int


class Runs(NamedTuple):
    """Records that lie together in files that are fetched as a whole, and so are read one file after the other.

    Run `i` are the records from `ends[i - 1]` to `ends[i]`; records are shuffled among `at_once` of them.
    """

    ends: NDArray[np.int64]
    at_once: int

    @property
    def records_at_once(self) -> int:
        """Records of so many runs as are read at once."""
        return -(-int(self.ends[-1]) * self.at_once // len(self.ends))

    def of(self, record: int) -> tuple[int, int]:
        """Give the first record of the run that a record lies in, and the one behind its last."""
        number = int(np.searchsorted(self.ends, record, "right"))
        return (int(self.ends[number - 1]) if number else 0), int(self.ends[number])


LONGEST_REASON = 600
"""Letters of a reason; values that come from strangers are shown in it."""


class BadRecord(Exception):
    """This record cannot be used, through no fault of the program: it is skipped, counted and named in the log.

    The reason may hold what the record holds, and is made fit to be printed: of bounded length, on one line, without
    control characters and halves of surrogate pairs, which no terminal or file takes.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(clipped(reason, LONGEST_REASON))


def clipped(value: object, most: int = 200) -> str:
    """Return a text that can be printed, of so many letters at most: the middle of a longer one is left out."""
    text = str(value)
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2 - 5) :]}"
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def shown(value: object) -> str:
    """Write a value as an error message shows it: short, however large it is."""
    if isinstance(value, str | bytes | bytearray):
        return clipped(repr(value[:60] if len(value) > 60 else value) + ("..." if len(value) > 60 else ""), 80)
    if isinstance(value, list | tuple | set | frozenset | Mapping) and len(value) > 3:
        return f"a {type(value).__name__} of {len(value):,}"
    return clipped(_SHORT.repr(value), 80)


class _Short(Repr):
    """`repr` that goes into nothing large or deep; Python refuses to write out the longest whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 60, 60

    def repr_int(self, x: int, _level: int) -> str:
        return repr(x) if x.bit_length() <= 200 else f"a whole number of {x.bit_length():,} bits"


_SHORT = _Short()


def _escaped(letter: str) -> str:
    return " " if letter in "\t\n\r" else letter.encode("unicode_escape").decode("ascii")


class Source(ABC):
    """Base of all sources. Objects of it must be picklable, so that worker processes can have them.

    A source is a class with a `Config`, registered by `@source("name")`, and opened with `config`.
    """

    kind_name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    decodes: bool = True
    """Whether its pictures are files that have to be decoded, so that worker processes pay."""
    parts: tuple[Part, ...] = ()
    """Of a mixture, its parts; nothing, where an epoch has every record once."""
    runs: tuple[Runs | None, ...] = ()
    """For each part (or for all records) how they lie in files that are fetched; nothing, where they do not."""
    notes: tuple[str, ...] = ()
    """What was found when it was opened that its user should know: files that were passed over."""
    skip_limit: float = SKIP_LIMIT
    """Share of broken records above which a run stops."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of records."""

    @abstractmethod
    def record(self, index: int) -> Record:
        """Read the record of that number, from 0; the same whenever it is asked for.

        Raises:
            BadRecord: the data behind it is broken.
        """

    def fetch(self, index: int) -> None:
        """Bring the run that a record lies in to this machine, before the record is asked for."""
        del index

    def text_bytes(self, index: int, field: str) -> int | None:
        """Tell how long a record's text is, where that is known before its run is fetched.

        Raises:
            BadRecord: the record is broken.
        """
        del index, field
        return None


def open_source(settings: Mapping[str, Any]) -> Source:
    """Open the source that settings with a `use` describe, as in `{"use": "scenes", "size": 64}`.

    Raises:
        UserError: no such source, wrong settings, or data that is not there.
    """
    rest = dict(settings)
    if "use" not in rest:
        raise UserError("a source needs `use`, its kind", hints=[f"sources: {', '.join(names('source'))}"])
    name = str(rest.pop("use"))
    kind = get(name)
    if kind.category != "source":
        raise UserError(
            f"{name!r} is a {kind.category}, not a source", hints=[f"sources: {', '.join(names('source'))}"]
        )
    try:
        config = kind.implementation.Config.model_validate(rest)
    except ValidationError as error:
        wrong = [_wrong(detail) for detail in error.errors()]
        unknown = [str(detail["loc"][0]) for detail in error.errors() if detail["type"] == "extra_forbidden"]
        nearest = [hint for setting in unknown for hint in did_you_mean(setting, kind.settings)]
        hints = [*nearest, f"settings: {', '.join(kind.settings)}"]
        raise UserError(f"source {name!r}: {'; '.join(wrong)}", hints=hints) from None
    opened: Source = kind.implementation(config)
    return opened


def _wrong(detail: ErrorDetails) -> str:
    """Say what is wrong with a setting as a blueprint's check says it, and not in pydantic's words."""
    path = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"it has no setting `{path}`"
    if detail["type"] == "missing":
        return f"it needs `{path}`"
    text = detail["msg"].removeprefix("Value error, ").replace("Input should", f"`{path}` should", 1)
    return text if not path or path in text else f"`{path}`: {text}"

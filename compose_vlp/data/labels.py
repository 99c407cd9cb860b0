"""Classes, identifiers and numbers of records: by name or number, as values or as the texts that tables have."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from compose_vlp.data.source import BadRecord, ClassNumber, shown
from compose_vlp.data.wording import checked_text
from compose_vlp.errors import UserError, did_you_mean

TRUTH: Final = {"true": 1, "false": 0}
"""Truth values as tables write them."""
MOST_WHOLE: Final = 2**63 - 1
"""The largest number of a tensor of whole numbers."""
MOST_FLOAT: Final = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
"""A number as tables write it, with a point."""


class Classes:
    """Reads a label: the number of a class, a truth value, or the name of a class; as text too, where no class is
    called so."""

    def __init__(self, classes: tuple[str, ...] | None, count: int | None = None) -> None:
        self.names = classes or ()
        self.count = len(self.names) or count
        self.places = {name: number for number, name in enumerate(self.names)}
        self.agreed: set[tuple[str, ...]] = set()

    def __call__(self, value: Any, field: str) -> int:
        if isinstance(value, ClassNumber) and self.names:
            return self._by_name(value, field)
        if isinstance(value, str) and value in self.places:
            return self._only_one(value, field)
        number = _class_number(value)
        if number is not None and 0 <= number < (self.count or MOST_WHOLE + 1):
            return int(number)
        raise BadRecord(f"{field} is {shown(value)}, not {self._expected(value)}")

    def _by_name(self, value: ClassNumber, field: str) -> int:
        """Return the place of a class that the data names, whatever its number there.

        Raises:
            BadRecord: it has no class, as records of test splits have -1.
            UserError: the data has classes that are not among these.
        """
        if value.names not in self.agreed:
            self._check_names(value.names, field)
            self.agreed.add(value.names)
        if not 0 <= value < len(value.names):
            raise BadRecord(f"{field} is {int(value)}, and the data has {len(value.names)} classes")
        if value.names == self.names:
            return int(value)
        return self._only_one(value.names[value], field)

    def _check_names(self, names: tuple[str, ...], field: str) -> None:
        strange = [name for name in names if name not in self.places]
        if strange:
            raise UserError(
                f"{field}: the data has a class {strange[0]!r}, which is not among `classes`",
                hints=[
                    *did_you_mean(strange[0], self.names),
                    f"the data's classes: {_some(names)}",
                    f"`classes`: {_some(self.names)}",
                    "name them as the data does; without `classes` its numbers are taken as they are",
                ],
            )

    def _only_one(self, name: str, field: str) -> int:
        """Return the class of this name. ImageNet has two of the name `missile`: only their numbers tell them apart."""
        if self.names.count(name) > 1:
            places = [str(place) for place, other in enumerate(self.names) if other == name]
            raise BadRecord(f"{field} is {name!r}, the name of the classes {' and '.join(places)}: give their number")
        return self.places[name]

    def _expected(self, value: object) -> str:
        if not self.names:
            below = f" below {self.count}, which is how many classes there are" if self.count else ""
            return f"a number{below} (the input names no classes)"
        if isinstance(value, str) and (near := did_you_mean(value, self.names)):
            return f"one of the {len(self.names)} classes; {near[0]}"
        return f"one of {_some(self.names)}, or a number below {len(self.names)}"


def _class_number(value: Any) -> int | None:
    """Read a number, a truth value, or the text of either, as tables have them."""
    if isinstance(value, str):
        return TRUTH.get(value.strip().lower(), _whole(value))
    return int(value) if isinstance(value, int | np.integer | np.bool_) else None


def read_id(value: Any, field: str) -> int:
    """Read a whole number as it is, as text too; another text as a hash of 63 bits, the same in every process."""
    if isinstance(value, str):
        number = _whole(checked_text(value, field))
        if number is None or str(number) != value or not -MOST_WHOLE - 1 <= number <= MOST_WHOLE:
            return int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "big") >> 1
        return number
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BadRecord(f"{field} is {shown(value)}, not an id")
    if not -MOST_WHOLE - 1 <= int(value) <= MOST_WHOLE:
        raise BadRecord(f"{field} is {shown(value)}, which has more than 64 bits; write such an id as a text")
    return int(value)


def read_number(value: Any, field: str) -> float:
    """Read a number, or the text of one."""
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise BadRecord(f"{field} is {shown(value)}, not a number")
    if not -MOST_FLOAT <= number <= MOST_FLOAT:  # neither is NaN
        raise BadRecord(f"{field} is {shown(value)}, not a finite number of 32 bits")
    return float(number)


def _whole(text: str) -> int | None:
    """Read the whole number that a text is, of at most 20 digits."""
    return int(text) if re.fullmatch(r"\s*-?\d{1,20}\s*", text, re.ASCII) else None


def _some(names: tuple[str, ...]) -> str:
    """List the first of many names."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

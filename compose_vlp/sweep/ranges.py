"""Ranges that a search draws from: `log(1e-4, 1e-2)`, `uniform(0, 1)`, `int(2, 8)`, `choice(a, b)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from compose_vlp.blueprint import scalars

if TYPE_CHECKING:
    import optuna

FORMS: Final = ("log", "uniform", "int", "choice")
_CALL: Final = re.compile(r"(\w+)\s*\((.*)\)\Z", re.DOTALL)


class RangeError(ValueError):
    """A range that cannot be drawn from; the message says why."""


@dataclass(frozen=True)
class Range:
    """A form with its arguments as text: two bounds, or the choices."""

    form: str
    arguments: tuple[str, ...]

    def draw(self, trial: optuna.trial.BaseTrial, name: str) -> str:
        """A value as an override has it."""
        if self.form == "choice":
            return str(trial.suggest_categorical(name, self.arguments))
        low, high = map(float, self.arguments)
        if self.form == "int":
            return str(trial.suggest_int(name, int(low), int(high)))
        return repr(trial.suggest_float(name, low, high, log=self.form == "log"))

    def __str__(self) -> str:
        return f"{self.form}({', '.join(self.arguments)})"


def is_range(text: str) -> bool:
    """Does the text call something, as ranges do?"""
    return _CALL.match(text.strip()) is not None


def read_range(text: str) -> Range:
    """The range that a text says.

    Raises:
        RangeError: an unknown form, or arguments that it does not take.
    """
    call = _CALL.match(text.strip())
    if call is None or call[1] not in FORMS:
        raise RangeError(f"`{text}` is no range: log(low, high), uniform(low, high), int(low, high) or choice(a, b)")
    form, arguments = call[1], tuple(part.strip() for part in call[2].split(",") if part.strip())
    if form == "choice":
        if len(arguments) < 2:
            raise RangeError("`choice` has two values or more")
        return Range(form, arguments)
    if len(arguments) != 2:
        raise RangeError(f"`{form}` has two bounds: {form}(low, high)")
    try:
        low, high = (scalars.read_int(bound) if form == "int" else scalars.read_float(bound) for bound in arguments)
    except scalars.ScalarError as error:
        raise RangeError(f"a bound of `{text}`: {error}") from None
    if low >= high:
        raise RangeError(f"the bounds of `{text}` ascend: the smaller one comes first")
    if form == "log" and low <= 0:
        raise RangeError(f"`log` is of numbers above 0, and `{arguments[0]}` is none")
    return Range(form, arguments)

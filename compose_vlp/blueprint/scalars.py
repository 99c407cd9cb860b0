"""Text to values, by the type that the destination wants: `1e-4` is a float, `no` a string, `010` ten."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

Unit: TypeAlias = Literal["steps", "epochs", "samples", "percent"]
_NUMBER = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_FLOAT = re.compile(_NUMBER)
_INT = re.compile(r"[+-]?\d[\d_]*")
_QUANTITY = re.compile(rf"({_NUMBER})\s*(%|[a-z]+)")
_QUANTITY_PATTERN = r"^(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)? *(steps?|epochs?|samples?|%)$"
_MEMORY = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)")
_MEMORY_UNITS: dict[str, int] = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNITS: dict[str, Unit] = {"%": "percent", **{unit[:-1]: unit for unit in get_args(Unit)[:3]}}
_UNITS |= {unit: unit for unit in get_args(Unit)[:3]}


LARGEST_INT = 10**18
"""No setting of ours counts as far, and none of the libraries below takes more than 63 bits."""


class ScalarError(ValueError):
    """Text that is no value of the wanted type; the message says what was expected."""


@dataclass(frozen=True)
class Quantity:
    """A number and a unit: `1 epoch`, `500 steps`, `1e6 samples`, `10 %` (of the running stage)."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        number = f"{self.value:g}" if self.value != int(self.value) or self.value >= 1e15 else str(int(self.value))
        if self.unit == "percent":
            return f"{number} %"
        return f"{number} {self.unit[:-1] if self.value == 1 else self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else read_quantity(str(value)),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": _QUANTITY_PATTERN, "examples": ["1 epoch", "500 steps", "10 %"]}


@dataclass(frozen=True)
class Memory:
    """So much memory: `60 GB`, `500 MB`, `1.5 GiB`."""

    bytes: int
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text


def read_bool(text: str) -> bool:
    """`true` or `false`."""
    if text in ("true", "false"):
        return text == "true"
    raise ScalarError("expected `true` or `false`")


def read_int(text: str) -> int:
    """A whole number: decimal, whatever its zeros (`010` is ten); `1e6` counts as one."""
    if not _FLOAT.fullmatch(text) or not (_INT.fullmatch(text) or float(text).is_integer()):
        raise ScalarError("expected a whole number")
    if abs(float(text)) >= LARGEST_INT:
        raise ScalarError("expected a whole number of at most 18 digits")
    return int(text) if _INT.fullmatch(text) else int(float(text))


def read_float(text: str) -> float:
    """A number; finite, because no setting of ours means infinity."""
    if _FLOAT.fullmatch(text) and abs(float(text)) < float("inf"):
        return float(text)
    raise ScalarError("expected a number")


def read_quantity(text: str) -> Quantity:
    """A number and a unit; negative ones are refused, and parts of a step or sample."""
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        bare = " (a unit is missing)" if _FLOAT.fullmatch(text.strip()) else ""
        raise ScalarError(f"expected a number and a unit, such as `10 epochs`, `500 steps`, `1e6 samples`, `5 %`{bare}")
    if match[2] not in _UNITS:
        raise ScalarError(f"`{match[2]}` is no unit: steps, epochs, samples or %")
    quantity = Quantity(read_float(match[1]), _UNITS[match[2]])
    if quantity.value < 0:
        raise ScalarError("expected a quantity of at least 0")
    if quantity.unit in ("steps", "samples") and not quantity.value.is_integer():
        raise ScalarError(f"expected whole {quantity.unit}")
    if quantity.unit == "percent" and quantity.value > 100:
        raise ScalarError("expected at most 100 %")
    return quantity


def read_memory(text: str) -> Memory:
    """A number and a unit of memory, decimal or binary; more than nothing."""
    match = _MEMORY.fullmatch(text.strip())
    if not match or match[2] not in _MEMORY_UNITS:
        raise ScalarError(f"expected an amount of memory such as `60 GB` ({', '.join(_MEMORY_UNITS)})")
    number = round(read_float(match[1]) * _MEMORY_UNITS[match[2]])
    if number <= 0:
        raise ScalarError("expected more memory than none")
    return Memory(number, f"{match[1]} {match[2]}")

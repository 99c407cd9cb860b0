"""Are two runs of one step the same? What one folder holds is compared one by one; what is not compared has failed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["value", "loss", "ids", "gradient norm", "gradient", "state", "input"]


@dataclass(frozen=True)
class Tolerances:
    """Differences of tensors are measured by their Euclidean norm, as a share of the recorded tensor's.

    Processors add up in their own orders, so single elements of float32 differ by any factor of themselves, the more so
    the larger the model; the norm of all of them does not. One wrong element is far above `value` in its tensor's norm.

    `value`: for values, losses and state. `norm`: for gradients, whole or by their norms alone, plus `floor` times the
    largest norm of all: where the true gradient is 0 (the bias of attention's keys), both sides hold rounding only.
    """

    value: float = 1e-5
    norm: float = 1e-4
    floor: float = 1e-6


@dataclass(frozen=True)
class Outcome:
    """The results of one step, under the folder's names; whole numbers among the values are compared as ids.

    A parameter without a gradient has a norm of 0.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    losses: frozenset[str] = frozenset()  # the names in `values` that are losses
    norms: Mapping[str, float] = field(default_factory=dict)
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One comparison. `error` is in units of the tolerance's base (relative), None where nothing could be compared."""

    kind: Kind
    name: str
    passed: bool
    error: float | None = None
    allowed: float | None = None
    by_floor: bool = False
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All rows of one folder."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """True where there is something to compare, and all of it is within tolerance."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.passed)

    @property
    def by_floor(self) -> tuple[Row, ...]:
        """List what is within tolerance by the floor alone: gradients that are 0 but for rounding."""
        return tuple(row for row in self.rows if row.by_floor)

    def summary(self) -> dict[str, dict[str, Any]]:
        """By kind: how many, how many passed, the largest error."""
        by_kind: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            counts = by_kind.setdefault(row.kind, {"compared": 0, "passed": 0, "largest_error": 0.0})
            counts["compared"] += row.error is not None
            counts["passed"] += row.passed
            if row.error is not None and not row.by_floor:
                counts["largest_error"] = max(counts["largest_error"], row.error)
        return by_kind

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        rows = [{name: _finite(value) for name, value in vars(row).items()} for row in self.rows]
        return {
            "passed": self.passed,
            "summary": {k: {n: _finite(v) for n, v in counts.items()} for k, counts in self.summary().items()},
            "failures": [row.name for row in self.failures],
            "by_floor": [row.name for row in self.by_floor],
            "rows": rows,
        }


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def compare(
    ours: Outcome, recorded: Outcome, *, unused: tuple[str, ...] = (), tolerances: Tolerances | None = None
) -> Comparison:
    """Everything in `recorded` against `ours`; `unused` names inputs of the folder that were not replayed."""
    limits = tolerances or Tolerances()
    rows = [
        _value("loss" if name in recorded.losses else "value", name, ours.values.get(name), value, limits)
        for name, value in recorded.values.items()
    ]
    rows += _norms(ours.norms, recorded.norms, limits)
    rows += _gradients(ours.gradients, recorded, limits)
    rows += [_value("state", n, ours.state.get(n), value, limits) for n, value in recorded.state.items()]
    rows += [Row("input", name, passed=False, note="not replayed") for name in unused]
    return Comparison(tuple(rows))


def _value(kind: Kind, name: str, ours: Tensor | None, recorded: Tensor, limits: Tolerances) -> Row:
    if ours is None:
        return Row(kind, name, passed=False, note="not compared")
    if ours.shape != recorded.shape:
        return Row(kind, name, passed=False, note=f"shape {list(ours.shape)}, wanted {list(recorded.shape)}")
    if not recorded.dtype.is_floating_point:
        different = int((ours.cpu() != recorded.cpu()).sum())
        note = f"{different} of {recorded.numel()} differ" if different else ""
        plain: Kind = "ids" if kind == "value" else kind
        return Row(plain, name, different == 0, float(different), 0.0, note=note)
    a, b = ours.detach().cpu().double(), recorded.cpu().double()
    if recorded.numel() == 0:
        return Row(kind, name, passed=True, error=0.0, allowed=limits.value)
    relative = _share(float((a - b).norm()), float(b.norm()))
    return Row(kind, name, relative <= limits.value, relative, limits.value)


def _share(difference: float, norm: float) -> float:
    return difference / norm if norm else (0.0 if difference == 0 else math.inf)


def _norms(ours: Mapping[str, float], recorded: Mapping[str, float], limits: Tolerances) -> Iterator[Row]:
    largest = max(recorded.values(), default=0.0)
    for name, norm in recorded.items():
        if name not in ours:
            yield Row("gradient norm", name, passed=False, note="not compared")
            continue
        difference = abs(ours[name] - norm)
        close = difference <= limits.norm * norm
        passed = difference <= limits.norm * norm + limits.floor * largest
        yield Row("gradient norm", name, passed, _share(difference, norm), limits.norm, by_floor=passed and not close)


def _gradients(ours: Mapping[str, Tensor], recorded: Outcome, limits: Tolerances) -> Iterator[Row]:
    floor = limits.floor * max(recorded.norms.values(), default=0.0)
    for name, value in recorded.gradients.items():
        row = _value("gradient", name, ours.get(name), value, replace(limits, value=limits.norm))
        norm = float(value.double().norm())
        if not row.passed and row.error is not None and row.error * norm <= limits.norm * norm + floor:
            row = replace(row, passed=True, by_floor=True)
        yield row


def norms_of(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """The Euclidean norm of every gradient."""
    return {name: float(torch.linalg.vector_norm(gradient.double())) for name, gradient in gradients.items()}

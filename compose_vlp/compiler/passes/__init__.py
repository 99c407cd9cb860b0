"""Passes: each file has one function `plan -> plan` that keeps every loss, gradient and state to rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from compose_vlp.compiler.passes.batch import batch
from compose_vlp.compiler.passes.chunks import chunks
from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.compiler.passes.dedupe import dedupe
from compose_vlp.compiler.passes.frozen import frozen
from compose_vlp.compiler.passes.gather import gather
from compose_vlp.compiler.passes.last_layer import last_layer
from compose_vlp.compiler.passes.prune import prune
from compose_vlp.compiler.passes.rows import rows
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.plan import Plan

Pass = Callable[[Plan, PassContext], Plan]

PASSES: dict[str, Pass] = {
    "prune": prune,
    "dedupe": dedupe,
    "rows": rows,
    "chunks": chunks,
    "last_layer": last_layer,
    "frozen": frozen,
    "batch": batch,
    "gather": gather,
}
"""All passes in the order in which they run."""


RELYING = frozenset({"dedupe", "batch"})
"""Those that make one call of several, where promises say that they may."""


@dataclass(frozen=True)
class Applied:
    """What a pass did: calls before and after, and its own words."""

    name: str
    calls_before: int
    calls_after: int
    note: str


def refuse_unknown(without: Collection[str]) -> None:
    """Refuse what is to be left out and is no pass.

    Raises:
        UserError: it names the first of them.
    """
    for name in without:
        if name not in PASSES:
            raise UserError(f"no pass is called {name!r}", hints=did_you_mean(name, PASSES) or [", ".join(PASSES)])


def run_passes(plan: Plan, context: PassContext, without: Collection[str] = ()) -> tuple[Plan, tuple[Applied, ...]]:
    """Rewrite a plan by every pass but those named.

    Raises:
        UserError: `without` names no pass.
    """
    refuse_unknown(without)
    applied = []
    for name, rewrite in PASSES.items():
        if name in without:
            continue
        before, notes = plan.counted(), len(plan.notes)
        doubts = _doubts(plan, context) if name in RELYING else []
        plan = rewrite(plan, context)
        applied.append(Applied(name, before, plan.counted(), "; ".join([*plan.notes[notes:], *doubts])))
    return plan, tuple(applied)


def _doubts(plan: Plan, context: PassContext) -> list[str]:
    """Of what several calls stay as they are, because nothing can be relied on."""
    counts = Counter(call.target for call in plan.calls if call.role in ("component", "function"))
    return [f"nothing is relied on of {name}: {why}" for name, why in context.doubts.items() if counts[name] > 1]


__all__ = ["PASSES", "Applied", "Pass", "PassContext", "refuse_unknown", "run_passes"]

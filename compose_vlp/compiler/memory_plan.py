"""Memory of one process before it is needed: what a stage holds on each of many devices, and what would make it fit.

Weights, gradients and moments are counted from the model, in float32; what a step keeps for its backward pass is
measured on the meta device, in the stage's precision, at the rows that one process has. What is gathered from the
others is counted from the shapes of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.readable import percent, several, storage

GB: Final = 10**9
CARDS: Final[Mapping[str, int]] = {
    "v100": 32 * GB,
    "a100-40gb": 40 * GB,
    "a100": 80 * GB,
    "l40s": 48 * GB,
    "h100": 80 * GB,
    "h200": 141 * GB,
    "b200": 180 * GB,
}
"""Memory by card, in bytes as its maker counts them."""
SPARE: Final = 0.08
"""Share of a card that the driver, kernels' workspaces and fragments of freed memory take."""
MACHINE: Final = 8
"""Processes of one machine, over which `hybrid` divides a copy where the blueprint does not say."""
COPIES: Final = 3
"""A matrix of scores over gathered rows stands there as scores, as their softmax and as the gradient."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that one of `world` processes holds, at `rows` records at a time, under an engine; `card` is a limit.

    `rows` are those of one of `accumulate` pieces in which a process computes its part of the batch of `stage`;
    `activations` are in the stage's `precision`. `whole_layers` are what a process that has a piece of the model holds
    whole for a moment: layers, and their gradients until these are scattered. `backward` is the most that gradients,
    activations and these take together. The layers of the components `recompute` run again in the backward; `smaller`
    is the same with more of them, where the card does not hold it without.
    """

    engine: str
    world: int
    shards: int
    rows: int
    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    gathered: int
    whole_layers: int
    backward: int
    card: int | None = None
    stage: str = ""
    accumulate: int = 1
    precision: str = "fp32"
    recompute: tuple[str, ...] = ()
    smaller: MemoryPlan | None = None

    @property
    def total(self) -> int:
        """Add up what is there at one time; without activations where these could not be counted."""
        return self.weights + self.optimizer + self.backward + self.gathered

    @property
    def fits(self) -> bool | None:
        """Tell whether the card holds it; None where no card was named, or activations are not known."""
        if self.card is None or self.activations is None:
            return None
        return self.total <= self.card * (1 - SPARE)

    def as_json(self) -> dict[str, Any]:
        """Give every figure, for scripts."""
        smaller = {} if self.smaller is None else {"smaller": self.smaller.as_json()}
        return asdict(self) | {"total": self.total, "fits": self.fits} | smaller


def card_memory(name: str) -> int:
    """Give a card's memory in bytes.

    Raises:
        UserError: a card that is not known.
    """
    key = name.lower()
    if key not in CARDS:
        raise UserError(
            f"no card is known as {name!r}", hints=did_you_mean(key, CARDS) or [f"cards: {', '.join(CARDS)}"]
        )
    return CARDS[key]


def rows_of_process(batch: int, world: int, pieces: int = 1) -> int:
    """Give the records that one process has at a time, of `pieces` in which it computes its part of a batch.

    Raises:
        UserError: processes and pieces do not divide the batch.
    """
    parts = world * pieces
    if batch % parts:
        near = sorted({batch // parts * parts, ceil(batch / parts) * parts} - {0})
        who = f"{world} processes" + (f" of {pieces} pieces" if pieces > 1 else "")
        raise UserError(
            f"{who} do not divide a batch of {batch}",
            hints=[f"batches that they divide: {' and '.join(map(str, near))}"],
        )
    return batch // parts


def memory_plan(
    memory: Mapping[str, int | None],
    gathered: int,
    *,
    engine: str,
    world: int,
    shards: int = MACHINE,
    rows: int,
    card: int | None = None,
    stage: str = "",
    accumulate: int = 1,
    precision: str = "fp32",
    recompute: tuple[str, ...] = (),
) -> MemoryPlan:
    """Divide what a report counts (`weights`, `gradients`, `optimizer`, `activations`, in bytes) under an engine.

    `ddp` holds all of it in every process (its buckets are the gradients); shards hold their part of weights, gradients
    and moments, and `whole_layers` for a moment. `shards`, a divisor of `world`, are those of `hybrid`. One process
    makes gradients while it gives up activations, and so do shards, and `backward` is what is there at most; in buckets
    and pieces of a batch gradients are there throughout.
    """
    pieces = pieces_of_model(engine, world, shards)
    gradients = ceil((memory["gradients"] or 0) / pieces)
    whole_layers = memory.get("whole_layers") or 0
    together = memory.get("backward") if pieces > 1 or (world == 1 and accumulate == 1) else None
    return MemoryPlan(
        engine=engine,
        world=world,
        shards=pieces,
        rows=rows,
        weights=ceil((memory["weights"] or 0) / pieces),
        gradients=gradients,
        optimizer=ceil((memory["optimizer"] or 0) / pieces),
        activations=memory["activations"],
        gathered=gathered,
        whole_layers=whole_layers,
        backward=gradients + (memory["activations"] or 0) + whole_layers if together is None else together,
        card=card,
        stage=stage,
        accumulate=accumulate,
        precision=precision,
        recompute=recompute,
    )


def pieces_of_model(engine: str, world: int, shards: int = MACHINE) -> int:
    """Count the pieces into which an engine divides a model; 1 where every process has all of it."""
    return {"fsdp": world, "hybrid": shards}.get(engine, 1)


def gathered_bytes(shapes: Iterable[Sequence[str | int]], rows: int, world: int) -> int:
    """Count what the rows of the other processes add, in float32: features that are gathered, scores against them.

    `shapes` are those of the calls, in which `gathered x` stands for the rows of all processes.
    """
    added = 0
    for shape in shapes:
        if any(map(_is_gathered, shape)):
            sizes = [size if isinstance(size, int) else rows if i == 0 or _is_gathered(size) else 1
                     for i, size in enumerate(shape)]  # fmt: skip
            here = prod(sizes)
            there = here * world ** sum(map(_is_gathered, shape))
            scores = COPIES if all(isinstance(size, str) for size in shape) else 1
            added += 4 * scores * (there - here)
    return added


def _is_gathered(size: str | int) -> bool:
    return isinstance(size, str) and size.startswith("gathered ")


def ways_out(plan: MemoryPlan, other: Sequence[MemoryPlan]) -> list[str]:
    """Say what would make it fit: other engines, layers that run again, fewer rows at once, or both of these."""
    if plan.fits is not False or plan.card is None or plan.activations is None:
        return []
    ways = [f"`distribute: {each.engine}` holds {storage(each.total)}" for each in other if each.fits]
    again = [each.smaller for each in other if each.smaller is not None]
    ways += [f"`{_recomputing(each)}` under {each.engine} holds {storage(each.total)}" for each in again if each.fits]
    limit = plan.card * (1 - SPARE)
    ways += pieces_within(plan, limit)
    if plan.smaller is not None and not plan.smaller.fits:
        ways += [f"`{_recomputing(plan.smaller)}` with {way}" for way in pieces_within(plan.smaller, limit)]
    return ways or ["more processes, a smaller batch, or smaller components: weights and moments alone do not fit"]


def pieces_within(plan: MemoryPlan, limit: float) -> list[str]:
    """Say in how many pieces of the batch a process would hold no more than `limit` bytes; nothing where none are."""
    held = plan.weights + plan.gradients + plan.optimizer + plan.gathered + plan.whole_layers
    activations = plan.activations or 0
    if limit <= held:
        return []
    parts = max(ceil(activations / (limit - held)), 2)
    while parts < plan.rows and plan.rows % parts:
        parts += 1
    if parts > plan.rows:
        return []
    change = f"stages.{plan.stage}.accumulate={parts * plan.accumulate}"
    return [f"`{change}` under {plan.engine}: {several(plan.rows // parts, 'record')} at a time"]


def _recomputing(plan: MemoryPlan) -> str:
    return f"stages.{plan.stage}.recompute=[{', '.join(plan.recompute)}]"


def _counted_in(plan: MemoryPlan) -> str:
    return "in float32" if plan.precision == "fp32" else f"activations in {plan.precision}, the rest in float32"


def plans_text(plans: Sequence[MemoryPlan]) -> Group:
    """Write the plans for people: a line an engine, and what would help where none fits."""
    first = plans[0]
    heading = f"at {several(first.rows, 'record')} at a time, {_counted_in(first)}; `at most` are there at one time"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", padding=0)
    for name in (
        "engine",
        "weights",
        "gradients",
        "moments",
        "activations",
        "whole\nlayers",
        "gathered",
        "at most",
        "",
    ):
        table.add_column(name, justify="left" if name in ("engine", "") else "right", no_wrap=not name)
    for plan in plans:
        activations = "not known" if plan.activations is None else storage(plan.activations)
        verdict = {True: "fits", False: "too large", None: ""}[plan.fits]
        held = (plan.weights, plan.gradients, plan.optimizer)
        table.add_row(
            plan.engine,
            *map(storage, held),
            activations,
            *map(storage, (plan.whole_layers, plan.gathered, plan.total)),
            verdict,
        )
    chosen = dict.fromkeys(plan.recompute for plan in plans)
    again = [f"computed again: {', '.join(names) or 'nothing'}" for names in chosen if len(chosen) > 1 or names]
    lines: list[RenderableType] = [
        Text.assemble((f"Each of {first.world} processes", "bold"), (f"  {heading}", "dim")),
        table,
        *map(Text, again),
    ]
    if first.card is not None and not any(plan.fits for plan in plans):
        least = min(plans, key=lambda plan: plan.total)
        lines.append(
            Text(f"None of them fits {storage(first.card)}, of which {percent(SPARE)} is left free. What does:")
        )
        lines += [Text(f"  = {way}", style="cyan") for way in ways_out(least, plans)]
    return Group(*lines)

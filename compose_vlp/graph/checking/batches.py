"""The records of a step: the pieces that they are computed in, and what components keep of them."""

from __future__ import annotations

from collections.abc import Collection

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.nodes import Entry
from compose_vlp.blueprint.nodes import Mapping as Tree
from compose_vlp.blueprint.sections import Stage
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.graph.problems import Problems

BATCH = 64
"""Records a step where neither the stage nor the blueprint says."""


def check_batch(
    blueprint: CheckedBlueprint, entry: Entry, stage: Stage, active: Collection[str], problems: Problems
) -> None:
    """Note a batch that does not fall into its pieces, or that a component of its losses cannot take."""
    batch = stage.batch or blueprint.settings.get("batch") or BATCH
    own = entry.value if isinstance(entry.value, Tree) else None
    written = (own.get("batch") if own is not None else None) or blueprint.document.root.get("batch")
    span = written.span if written is not None else entry.key.span
    # Micro-batches of different sizes would weigh their records differently in the mean of their gradients.
    if batch % stage.accumulate:
        pieces = own.get("accumulate") if own is not None else None
        message = f"a batch of {batch} does not fall into {stage.accumulate} pieces of one size"
        problems.add(message, pieces.span if pieces is not None else span, f"batch: {batch - batch % stage.accumulate}")
    calls = blueprint.fragment(Ref(blueprint.losses[name].call) for name in active)
    if stage.bucket is not None:
        _check_bucket(blueprint, entry, [call.target for call in calls if call.role == "input"], problems)
    sources = {spec.source for spec in blueprint.inputs.values()}
    # Only what sees one row a record is bound to the batch size: answers or table lines come in numbers of their own.
    of_records = [call.target for call in calls if call.role == "component" and call.type.rows.base in sources]
    for name in dict.fromkeys(of_records):
        part = blueprint.components[name]
        for clash in part.kind.check_batch(part.config, batch) if part.kind.check_batch is not None else ():
            place = blueprint.document.at("components", name, clash.settings[0]) if clash.settings else None
            related = [(f"`{name}` is told here", place.value.span if place is not None else part.span)]
            problems.add(f"`{name}`: {clash.message}", span, *clash.hints, related=related)


def _check_bucket(blueprint: CheckedBlueprint, entry: Entry, read: Collection[str], problems: Problems) -> None:
    """Note texts of like length that are asked for where no text's length makes a difference."""
    texts = {name: spec for name in read if isinstance(spec := blueprint.inputs[name], TextInput)}
    if any(spec.table is None and spec.pad == "longest" for spec in texts.values()):
        return
    written = entry.value.get("bucket") if isinstance(entry.value, Tree) else None
    hints = [f"`inputs.{name}.pad: longest`" for name, spec in texts.items() if spec.table is None]
    problems.add(
        f"`bucket` puts texts of like length in one batch, and no loss of stage `{entry.name}` reads a text that is "
        "padded to the longest of the batch",
        written.span if written is not None else entry.key.span,
        *(hints or [f"leave it out: its losses read {', '.join(f'`{name}`' for name in read)}"]),
    )

"""What stages train: a loss must reach weights, a stage must train some of those, and its data must feed them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from compose_vlp.blueprint.document import as_items
from compose_vlp.blueprint.nodes import Entry, Node, Scalar
from compose_vlp.blueprint.nodes import Mapping as Tree
from compose_vlp.blueprint.sections import Stage
from compose_vlp.blueprint.shrink import covers, may_match
from compose_vlp.errors import did_you_mean
from compose_vlp.graph.checking.batches import check_batch
from compose_vlp.graph.graph import CheckedBlueprint, LossEntry
from compose_vlp.graph.kinds import Kind
from compose_vlp.graph.plan import Call, Ref, refs_in
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import SimilarityType


def trained_by(blueprint: CheckedBlueprint, loss: LossEntry) -> frozenset[str]:
    """The components whose weights a loss moves: along ports that let gradients through, in the student's world."""
    components: set[str] = set()
    seen: set[str] = set()
    waiting = [loss.call]
    while waiting:
        call = blueprint.calls[waiting.pop()]
        if call.id in seen or call.world is not None:
            continue
        seen.add(call.id)
        kind = _kind(blueprint, call)
        if call.role == "component" and kind is not None:
            if kind.traits.draws == "choice":
                continue
            if kind.trainable and kind.traits.state != "kept":
                components.add(call.target)
        waiting += [ref.call for ref in _moved(call, kind)]
    return frozenset(components) | frozenset(
        owner
        for name in components
        for source in blueprint.components[name].share.values()
        if (owner := source.partition(".")[0]) != "own"
    )


def _kind(blueprint: CheckedBlueprint, call: Call) -> Kind | None:
    if call.role == "component":
        return blueprint.components[call.target].kind
    if call.role == "loss":
        return blueprint.losses[call.target].kind
    return blueprint.functions.get(call.target) if call.role == "function" else None


def _moved(call: Call, kind: Kind | None) -> Iterator[Ref]:
    """The values that a call hands gradients to."""
    for name, arg in call.args:
        port = kind.ports.get(name) if kind is not None else None
        if not (port and port.detached) and not (call.role == "index" and name == "index"):
            yield from refs_in(arg)


def check_training(blueprint: CheckedBlueprint, problems: Problems) -> None:
    """Note losses that move nothing, and stages that train nothing or lack data."""
    reached = {name: trained_by(blueprint, loss) for name, loss in blueprint.losses.items()}
    for name, loss in blueprint.losses.items():
        if not reached[name]:
            message = f"loss `{name}` reaches no weights, so nothing can be learnt from it"
            hint = "its values come from teachers, choices or ports that stop gradients"
            problems.add(message, loss.span, hint)
    for name, stage in blueprint.stages.items():
        if any(loss not in blueprint.losses for loss in stage.losses):
            continue  # a mistake in the loss was noted
        entry = blueprint.document.stages.entry(name)
        assert entry is not None, "a checked stage is written"
        _once(entry, problems)
        active = [loss for loss in stage.losses if blueprint.losses[loss].active]
        if not active:
            message = f"stage `{name}` has no loss whose weight is more than 0, so that nothing can be learnt"
            problems.add(message, entry.key.span)
        _trains(blueprint, entry, {loss: reached[loss] for loss in active if reached[loss]}, problems)
        _feeds(blueprint, entry, stage, active, problems)
        if (stage.batch or blueprint.settings.get("batch")) == 1:
            _alone(blueprint, entry, active, problems)
        check_batch(blueprint, entry, stage, active, problems)
    if not problems:
        _learnt(blueprint, reached, problems)


def _once(entry: Entry, problems: Problems) -> None:
    """Refuse a loss that a stage names twice: it is computed once, and would not count for two."""
    written = entry.value.entry("losses") if isinstance(entry.value, Tree) else None
    seen: set[str] = set()
    for item in as_items(written.value) if written is not None else ():
        if isinstance(item, Scalar) and item.text in seen:
            hint = f"`losses.{item.text}.weight` says how much a loss counts"
            problems.add(f"stage `{entry.name}` names the loss `{item.text}` twice", item.span, hint)
        elif isinstance(item, Scalar):
            seen.add(item.text)


# --- weights ------------------------------------------------------------------------------------------------------


def _trains(
    blueprint: CheckedBlueprint, entry: Entry, reached: Mapping[str, frozenset[str]], problems: Problems
) -> None:
    """Tell whether a stage trains anything that its losses reach; a loss that patterns name may have weights itself."""
    train, freeze = (_patterns(blueprint, entry, key) for key in ("train", "freeze"))
    everything = frozenset[str]().union(*reached.values())
    named = {f"losses.{name}" for name in reached}
    losses = {name for name in named if any(p.text.startswith("losses.") and may_match(p.text, name) for p in train)}
    known = {*blueprint.components, *blueprint.adapters, *named}
    if train and not any(may_match(p.text, name) for p in train for name in known):
        return  # patterns that name nothing were noted
    if everything and not _moving(blueprint, entry, everything | losses):
        taken = any(may_match(p.text, name) for p in train for name in everything | losses) or not train
        blamed = freeze if freeze and taken else train
        span = blamed[0].span if blamed else entry.key.span
        hint = f"its losses reach {', '.join(f'`{name}`' for name in sorted(everything))}"
        problems.add(f"stage `{entry.name}` trains nothing that its losses reach", span, hint)


def _moving(blueprint: CheckedBlueprint, entry: Entry, names: Collection[str]) -> set[str]:
    """Those of these that a stage's patterns leave to be trained, some of their weights at least."""
    train, freeze = (_patterns(blueprint, entry, key) for key in ("train", "freeze"))
    return {
        name
        for name in names
        if (not train or any(may_match(p.text, name) for p in train)) and not any(covers(p.text, name) for p in freeze)
    }


def _learnt(blueprint: CheckedBlueprint, reached: Mapping[str, frozenset[str]], problems: Problems) -> None:
    """Tell whether what learns a state (a codebook) has learnt it where a loss reads it: in this stage, in one before
    it, or in the run that a file is of."""
    brought = [pattern for item in blueprint.start if item.origin for pattern in _words(item.to)]
    known = {name for name in blueprint.components if any(may_match(pattern, name) for pattern in brought)}
    for name, stage in blueprint.stages.items():
        entry = blueprint.document.stages.entry(name)
        assert entry is not None, "a checked stage is written"
        moving = _moving(blueprint, entry, frozenset[str]().union(*(reached[loss] for loss in stage.losses)))
        for call in blueprint.fragment(Ref(blueprint.losses[loss].call) for loss in stage.losses):
            kind = _kind(blueprint, call)
            if kind is None or kind.traits.state != "learns" or call.target in known:
                continue
            known.add(call.target)
            if call.target not in moving:
                declared = blueprint.document.components.entry(call.target)
                problems.add(
                    f"`{call.target}` has learnt nothing where stage `{name}` reads it: no stage trains it until then, "
                    "and no file starts it",
                    call.span if declared is None else declared.key.span,
                    f"`start: [{{from: FILE, to: {call.target}}}, {{new: ['**']}}]` takes it from a run or a file",
                    f"a stage before `{name}`, or this one, with losses that train it, and `{call.target}` not frozen",
                    related=[("it is read here", call.span)] if call.span else (),
                )


def _patterns(blueprint: CheckedBlueprint, entry: Entry, key: str) -> list[Scalar]:
    own = entry.value.get(key) if isinstance(entry.value, Tree) else None
    node: Node | None = own if own is not None else blueprint.document.root.get(key)
    return [item for item in as_items(node) if isinstance(item, Scalar)]


# --- rows ---------------------------------------------------------------------------------------------------------


def without_others(blueprint: CheckedBlueprint, losses: Collection[str], *, gathered: bool) -> list[str]:
    """List what in these losses compares a row only with other rows of the batch: with nothing, in a batch of one.

    With `gathered` a batch is that of all processes; else rows that are gathered from them are not alone.
    """
    contrasting = []
    for name in losses:
        for call in blueprint.fragment([Ref(blueprint.losses[name].call)]):
            kind = _kind(blueprint, call)
            if (
                kind is None
                or kind.traits.rows != "batch"
                or not (call.id == blueprint.losses[name].call or _mines(kind))
            ):
                continue
            scores = [blueprint.type_of(ref) for ref in _moved(call, None if _mines(kind) else kind)]
            columns = [score.columns for score in scores if isinstance(score, SimilarityType)]
            if columns and all((c.queue is None or _mines(kind)) and (gathered or not c.gathered) for c in columns):
                contrasting.append(f"`{call.target}`")
    return list(dict.fromkeys(contrasting))


def _mines(kind: Kind) -> bool:
    """Does it draw other rows of the batch (a miner of wrong pairs)?"""
    return kind.category == "component" and kind.traits.draws == "choice"


def _alone(blueprint: CheckedBlueprint, entry: Entry, losses: Collection[str], problems: Problems) -> None:
    names = without_others(blueprint, losses, gathered=True)
    if names:
        own = entry.value.get("batch") if isinstance(entry.value, Tree) else None
        node = own if own is not None else blueprint.document.root.get("batch")
        message = f"stage `{entry.name}` has one record a step, and {', '.join(names)} compares it with others"
        problems.add(message, entry.key.span if node is None else node.span, "`batch: 2` or more")


# --- data ---------------------------------------------------------------------------------------------------------


def _feeds(
    blueprint: CheckedBlueprint, entry: Entry, stage: Stage, active: Collection[str], problems: Problems
) -> None:
    """Tell whether a stage says where each source of its inputs comes from."""
    calls = blueprint.fragment(Ref(blueprint.losses[name].call) for name in active)
    sources: Mapping[str, str] = {blueprint.inputs[c.target].source: c.target for c in calls if c.role == "input"}
    data = stage.data
    node = entry.value.get("data") if isinstance(entry.value, Tree) else None
    span = node.span if node is not None else entry.key.span
    given = set(data) if isinstance(data, dict) else {"main"}
    for source in sorted(sources.keys() - given):
        message = f"stage `{entry.name}` has no data for the source `{source}`, which feeds `{sources[source]}`"
        all_of_them = ", ".join(f"{source}: ..." for source in sorted(sources))
        problems.add(message, span, f"`data: {{{all_of_them}}}`")
    known = {spec.source for spec in blueprint.inputs.values()}
    if isinstance(node, Tree):
        for line in node:
            if line.name not in known:
                near = did_you_mean(line.name, known) or (f"sources: {', '.join(sorted(known))}",)
                problems.add(f"no input comes from the source `{line.name}`", line.key.span, *near)


def frozen_components(blueprint: CheckedBlueprint) -> frozenset[str]:
    """The components that no stage trains any part of, by the patterns alone."""
    frozen = frozenset(name for name, component in blueprint.components.items() if component.kind.trainable)
    for entry in blueprint.document.stages:
        train, freeze = (_patterns(blueprint, entry, key) for key in ("train", "freeze"))
        frozen &= {
            name
            for name in frozen
            if (train and not any(may_match(p.text, name) for p in train)) or any(covers(p.text, name) for p in freeze)
        }
    return frozen if blueprint.stages else frozenset()


def untrained(blueprint: CheckedBlueprint) -> list[str]:
    """Remarks on outputs that read weights which no stage trains and no file brings."""
    if not blueprint.stages:
        return []
    trained = frozenset[str]().union(
        *(trained_by(blueprint, blueprint.losses[loss]) for s in blueprint.stages.values() for loss in s.losses)
    )
    brought = [p for item in blueprint.start if item.origin for p in _words(item.to)]
    remarks = []
    for name, output in blueprint.outputs.items():
        read = blueprint.reached_components([output.ref])
        raw = [
            name
            for name in sorted(read - trained)
            if blueprint.components[name].kind.trainable and not any(may_match(p, name) for p in brought)
        ]
        if raw:
            words = ", ".join(f"`{name}`" for name in raw)
            remarks.append(f"output `{name}` reads {words}, which no stage trains")
    return remarks


def drifting(blueprint: CheckedBlueprint) -> list[str]:
    """Remarks on states (of a codebook) that move in a stage whose losses read them and train none of their weights."""
    remarks = []
    for name, stage in blueprint.stages.items():
        entry = blueprint.document.stages.entry(name)
        assert entry is not None, "a checked stage is written"
        calls = blueprint.fragment(Ref(blueprint.losses[loss].call) for loss in stage.losses)
        learning = {
            call.target
            for call in calls
            if call.world is None and (kind := _kind(blueprint, call)) is not None and kind.traits.state == "learns"
        }
        reached = frozenset[str]().union(*(trained_by(blueprint, blueprint.losses[loss]) for loss in stage.losses))
        remarks += [
            f"`{target}` is not frozen in stage `{name}`, whose losses train none of its weights: what it has learnt "
            f"moves all the same; `freeze: [{target}]` keeps it"
            for target in sorted(_moving(blueprint, entry, learning - reached))
        ]
    return remarks


def _words(patterns: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if patterns is None:
        return ("**",)
    return (patterns,) if isinstance(patterns, str) else patterns

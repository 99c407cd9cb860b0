"""Calls of one component become one call over all their rows, and a context is projected once for all who look at it.

Keys and values are made of a context before an index picks rows of it, and by parameters, not by components: two that
share their cross-attention share what it makes. Each row of a merged call then names the row of the context at which
it looks. Texts of different lengths are padded to the longest; noise may be drawn anew.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.compiler.passes.looks import Look, looks_of, without_index
from compose_vlp.compiler.passes.order import Unit, in_order
from compose_vlp.graph.plan import Arg, Call, Plan, Ref, refs_in
from compose_vlp.graph.types import EmbeddingType, IndexType, LogitsType, SequenceType, TextType, ValueType

SMALL = 128
"""Positions a row up to which merging pays: more of them fill the machine alone, unless a context is shared."""

ALIKE = 0.75
"""Shortest over longest text that are put in one batch: below, padding costs more than is saved."""

WHOLE = ":all"
"""What follows the name of the first of several calls in that of the one that is made of them."""

Looks = Mapping[str, Look]


def batch(plan: Plan, context: PassContext) -> Plan:
    """Put calls in one batch where that pays, and make each context's keys and values once."""
    looks = looks_of(plan, context)
    users: dict[str, list[str]] = defaultdict(list)
    for name, look in looks.items():
        users[look.keys].append(name)
    looks = {name: look for name, look in looks.items() if len(users[look.keys]) > 1 or _spreads(plan, look)}
    groups = _groups(plan, looks, context)
    written = in_order(_units(plan, groups, looks))
    assert written is not None, "groups in which a call waits for another are not made"
    picked = {ref.call for name in looks for ref in refs_in(plan.by_id()[name].arg("context") or ())}
    calls = _without_unread(written, picked, plan.results.values())
    return plan.replace(calls, _said(plan, groups, looks))


def _spreads(plan: Plan, look: Look) -> bool:
    """Do several rows look at one of a context (all answers at their question's)? Then its rows are the fewer."""
    bases = (plan.type_of(base).rows.base for base in look.bases)
    return look.index is not None and all(base != plan.type_of(look.index).rows.base for base in bases)


# --- which calls


def _groups(plan: Plan, looks: Looks, context: PassContext) -> list[list[str]]:
    """Calls that become one, none of which waits for another of them."""
    alike: dict[object, list[Call]] = defaultdict(list)
    for call in plan.calls:
        if _may_merge(plan, call, looks, context):
            bases = looks[call.id].bases if call.id in looks else ()
            form = _form(plan.type_of(_x(call)))
            rest = tuple((name, repr(arg)) for name, arg in call.args[1:] if name != "context")
            without = call.no_grad or call.world is not None
            alike[call.world, call.target, without, bases, form, rest].append(call)
    groups: list[list[str]] = []
    for calls in alike.values():
        fresh: list[list[Call]] = []
        for call in calls:
            for members in fresh:
                if _like_length(plan, [*members, call]) and _stands(plan, [*groups, _ids([*members, call])]):
                    members.append(call)
                    break
            else:
                fresh.append([call])
        groups += [_ids(members) for members in fresh if len(members) > 1]
    return groups


def _may_merge(plan: Plan, call: Call, looks: Looks, context: PassContext) -> bool:
    """May its rows stand in one batch with others, and would that pay?"""
    kind = context.kind_of(call) if call.role == "component" else None
    if kind is None or (kind.traits.rows, kind.traits.state) != ("independent", "none"):
        return False
    if kind.traits.draws == "choice" or not isinstance(call.args[0][1], Ref):
        return False
    looked = call.id in looks
    others = [arg for name, arg in call.args[1:] if not (looked and name == "context")]
    if any(True for arg in others for _ in refs_in(arg)):
        return False
    x = plan.type_of(_x(call))
    return _form(x) is not None and _splits(x, call.type) and (looked or _length(x) <= SMALL)


def _form(kind: ValueType) -> tuple[object, ...] | None:
    """Return what values that can stand in one batch have in common; None for those of which no batch is made."""
    if isinstance(kind, TextType):
        return "Text", kind.tokenizer, kind.vocab_size
    if isinstance(kind, EmbeddingType) and not (kind.rows.gathered or kind.rows.queue):
        return "Embedding", kind.width
    text = _text(kind)
    if isinstance(kind, SequenceType) and text is not None:
        return "Sequence", kind.width, kind.parts[0].name, kind.parts[0].cls, text.tokenizer
    return None


def _splits(x: ValueType, result: ValueType) -> bool:
    """Does a row of the result, and a position where there are any, stand where it stands in what came in?"""
    if isinstance(x, EmbeddingType):
        return isinstance(result, EmbeddingType) or (isinstance(result, LogitsType) and not result.over_positions)
    text, before = _text(result), x if isinstance(x, TextType) else _text(x)
    return text is not None and before is not None and text.root == before.root


def _text(kind: ValueType) -> TextType | None:
    """The text of a sequence that stands on one and nothing else, its padding being its last positions."""
    if isinstance(kind, SequenceType) and len(kind.parts) == 1 and kind.parts[0].cls != "last":
        return kind.parts[0].text
    return None


def _like_length(plan: Plan, calls: Sequence[Call]) -> bool:
    lengths = [_length(plan.type_of(_x(call))) for call in calls]
    return min(lengths) >= ALIKE * max(lengths)


def _length(kind: ValueType) -> int:
    """Positions a row, 1 for a vector; those of a text whose frame is not known count as many."""
    text = kind if isinstance(kind, TextType) else _text(kind)
    return 1 if text is None else text.length or SMALL + 1


def _stands(plan: Plan, groups: Sequence[Sequence[str]]) -> bool:
    """Is there an order in which the calls of each group come together?"""
    calls, grouped = plan.by_id(), {name for group in groups for name in group}
    units: list[Unit] = [tuple(calls[name] for name in group) for group in groups]
    if any(ref.call in group for group in groups for name in group for ref in calls[name].refs()):
        return False
    return in_order([*units, *((call,) for call in plan.calls if call.id not in grouped)]) is not None


# --- what is written


def _units(plan: Plan, groups: Sequence[Sequence[str]], looks: Looks) -> list[Unit]:
    """All calls anew: keys and values before their first user, and a group where its first call stood."""
    calls = plan.by_id()
    group_of = {name: group for group in groups for name in group}
    made: set[str] = set()
    units: list[Unit] = []
    terms = {call.id: next(call.refs()).call for call in plan.calls if call.role == "terms"}
    for call in plan.calls:
        if terms.get(call.id) in group_of:
            continue  # made beside the results of the group
        if call.id in looks and looks[call.id].keys not in made:
            made.add(looks[call.id].keys)
            users = [calls[name] for name, look in looks.items() if look.keys == looks[call.id].keys]
            units.append((_keys(users, looks[call.id]),))
        group = group_of.get(call.id)
        if group is None:
            units.append(_looking([call], _x(call), looks, call.id) if call.id in looks else (call,))
        elif group[0] == call.id:
            units.append(_merged(plan, [calls[name] for name in group], looks))
    return units


def _keys(users: Sequence[Call], look: Look) -> Call:
    """The keys and values of a context, for all who look at it."""
    first = users[0]
    given = without_index(first.arg("context") or (), look)
    return dataclasses.replace(
        first,
        id=look.keys,
        role="keys",
        args=(("x", given),),
        no_grad=all(user.no_grad for user in users),
    )


def _merged(plan: Plan, calls: Sequence[Call], looks: Looks) -> Unit:
    """Stack the inputs, make one call of all, and split its result into that of each call."""
    first = calls[0]
    xs = tuple(_x(call) for call in calls)
    rows, whole = f"{first.id}:rows", f"{first.id}{WHOLE}"
    stack = dataclasses.replace(first, id=rows, role="stack", target="", args=(("x", xs),), type=plan.type_of(xs[0]))
    if first.id in looks:
        body = _looking(calls, Ref(rows), looks, whole)
    else:
        body = (dataclasses.replace(first, id=whole, args=((first.args[0][0], Ref(rows)), *first.args[1:])),)
    pieces = (
        dataclasses.replace(call, role="split", target=str(i), args=(("x", Ref(whole)), ("like", xs)))
        for i, call in enumerate(calls)
    )
    return stack, *body, *pieces, *_terms(plan, calls, whole, xs)


def _terms(plan: Plan, calls: Sequence[Call], whole: str, xs: tuple[Ref, ...]) -> Iterator[Call]:
    """Yield what the one call adds to auxiliary losses, and its rows for each of those that it stands for."""
    adds = {next(call.refs()).call: call for call in plan.calls if call.role == "terms"}
    own = [adds[call.id] for call in calls if call.id in adds]
    if len(own) < len(calls):
        return
    name = f"{whole}:terms"
    yield dataclasses.replace(own[0], id=name, args=(("x", Ref(whole)),))
    for i, call in enumerate(own):
        yield dataclasses.replace(call, role="split", target=str(i), args=(("x", Ref(name)), ("like", xs)))


def _looking(calls: Sequence[Call], x: Ref, looks: Looks, name: str) -> Unit:
    """The call that does the work of all, at keys and values in place of contexts."""
    first = calls[0]
    look = looks[first.id]
    indices: tuple[Arg, ...] = tuple(looks[call.id].index or () for call in calls)
    rest = [(n, arg) for n, arg in first.args[1:] if n != "context"]
    args = [(first.args[0][0], x), *rest, ("kv", Ref(look.keys))]
    if indices == ((),):
        return (dataclasses.replace(first, id=name, args=tuple(args)),)
    picks = dataclasses.replace(
        first,
        id=f"{first.id}:looks",
        role="picks",
        target="",
        args=(("x", look.bases[0]), ("indices", indices)),
        type=IndexType(first.type.rows),
    )
    return picks, dataclasses.replace(first, id=name, args=(*args, ("rows", Ref(picks.id))))


def _without_unread(calls: Iterable[Call], picked: set[str], results: Iterable[Ref]) -> list[Call]:
    """The calls but those that picked rows of a context, where nothing else reads these rows."""
    calls = list(calls)
    read = {ref.call for call in calls for ref in call.refs()} | {ref.call for ref in results}
    return [call for call in calls if call.role != "index" or call.id not in picked or call.id in read]


def _said(plan: Plan, groups: Sequence[Sequence[str]], looks: Looks) -> str | None:
    shared: dict[tuple[str, str], int] = defaultdict(int)
    for look in looks.values():
        shared[" and ".join(map(str, look.bases)), look.owner] += 1
    calls = plan.by_id()
    notes = [f"one call of {calls[group[0]].target} for {', '.join(group)}" for group in groups]
    notes += [f"keys and values of {bases} once for {count} calls" for (bases, _), count in shared.items()]
    return "; ".join(notes) or None


# --- help


def _x(call: Call) -> Ref:
    """Return the argument of the first port."""
    given = call.args[0][1]
    assert isinstance(given, Ref), "only such calls are merged, and a call that looks at a context has such a port"
    return given


def _ids(calls: Iterable[Call]) -> list[str]:
    return [call.id for call in calls]

"""What may be put in for a name: named arguments, of names that are read, of the kind that the name stands for."""

from __future__ import annotations

from compose_vlp.errors import Span, did_you_mean
from compose_vlp.graph.expanding.computing import Computing
from compose_vlp.graph.language.expressions import Apply, Argument, Name, unparse, walk
from compose_vlp.graph.language.names import Callee, Key
from compose_vlp.graph.plan import Arg, Ref


def are_named(substitution: Computing, node: Apply, callee: Callee) -> bool:
    """Check whether a graph entry is called with arguments, all of them named (noted, if not)."""
    problems = substitution.problems
    before = len(problems)
    if not node.arguments:
        message = f"`{callee.name}` is a graph entry: without arguments it is read as `{callee.name}`"
        problems.add(message, node.span)
    for argument in node.arguments:
        if not argument.name:
            names = _readable(substitution, substitution.reads.of(callee.name, callee.world))
            hint = f"`{callee.name}(name={unparse(argument.value)})` replaces a name; it reads {names}"
            problems.add("a graph entry's arguments are named", argument.span, hint)
    return len(problems) == before


def explain_unread(substitution: Computing, argument: Argument, key: Key, callee: Callee, met: frozenset[Key]) -> None:
    """Note that the entry does not read a name that is to be replaced: what it reads, and who replaced what did."""
    names, problems = substitution.names, substitution.problems
    unsure = substitution.reads.broken | substitution.reads.unsure
    if any(read.name in unsure for read in (*met, key, Key(None, callee.name))):
        return  # what it reads is not known, for a mistake that was noted
    name, section = argument.name, names.section(argument.name)
    readable = [read.name for read in met if read.world in (key.world, None)]
    hints = (*did_you_mean(name, readable), f"it reads {_readable(substitution, met)}")
    if section not in ("graph", "inputs"):
        if name not in names.missing and problems.is_first(f"no {name}"):
            what = f"`{name}` is a {section[:-1]}, and is not replaced" if section else f"no such name: `{name}`"
            problems.add(f"{what} (in a call of `{callee.name}`)", argument.span, *hints)
        return
    where = f" in the world of `{key.world}`" if key.world else ""
    related = _replaced(substitution, name, [callee.name, *(read.name for read in met)])
    problems.add(f"`{callee.name}` does not read `{name}`{where}", argument.span, *hints, related=related)


def _replaced(substitution: Computing, read: str, entries: list[str]) -> list[tuple[str, Span]]:
    """The entries whose replaced expression mentions a name."""
    related = []
    for name in dict.fromkeys(entries):
        before = substitution.names.expression(name, 1)
        if before is not None and any(isinstance(node, Name) and node.name == read for node in walk(before)):
            place = substitution.names.entry(name).value.span
            related.append((f"`{name}` is replaced here, and read `{read}` before", place))
    return related


def _readable(substitution: Computing, keys: frozenset[Key]) -> str:
    order = list(substitution.names.document.names)
    ordered = sorted(keys, key=lambda key: (key.world or "", order.index(key.name)))
    return ", ".join(f"`{key}`" for key in ordered) or "nothing"


def fits(substitution: Computing, argument: Argument, key: Key, value: Arg) -> bool:
    """Check that what is put in has the kind, and the tokenizer, of what the name stands for (noted, if not)."""
    original = substitution.original(key, argument.span)
    if original is None:
        return True
    problems, expected = substitution.problems, substitution.calls.type_of(original)
    for item in value if isinstance(value, tuple) else (value,):
        given = substitution.calls.type_of(item) if isinstance(item, Ref) else None
        if given is None or given.kind != expected.kind:
            what = given.kind if given else "a literal"
            span = argument.span if given else argument.value.span
            problems.add(f"`{argument.name}` takes {expected.kind}, and this is {what}", span)
            return False
        mine, expected_tokenizer = getattr(given, "tokenizer", ""), getattr(expected, "tokenizer", "")
        if mine != expected_tokenizer:
            message = f"`{argument.name}` takes Text of tokenizer `{expected_tokenizer}`, and this is Text of `{mine}`"
            problems.add(message, argument.span)
            return False
    return True

"""Tables of words: what looks words up, or foretells them, has a row for each word of one vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compose_vlp.errors import Span
from compose_vlp.graph.language.sharing import EVERYTHING, OWN
from compose_vlp.graph.language.sizes import Sizing
from compose_vlp.graph.plan import Call, refs_in
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.types import LogitsType, TextType

EMBEDDING = "embedding"
"""The part that is a table of words; other parts are one where they are shared with it."""

USES = frozenset({"begin", "end", "pad", "mask", "clean"})
"""Settings of tokenizers that say how words are used, not which number a word has."""

Table = tuple[str, str]
"""A component and its part."""


def check_vocabularies(
    calls: Mapping[str, Call],
    sizings: Mapping[str, Sizing],
    shares: Mapping[str, Mapping[str, str]],
    problems: Problems,
) -> None:
    """Note a table of words that is read by the ids of two vocabularies, directly or because parts are shared."""
    first: dict[Table, tuple[str, Call]] = {}
    for call in calls.values():
        if call.role != "component" or call.target not in sizings:
            continue
        for part, tokenizer in _read(call, calls, sizings):
            table = _owner(call.target, part, shares)
            known, earlier = first.setdefault(table, (tokenizer, call))
            if not _alike(known, tokenizer, sizings) and problems.is_first(f"words of {table}"):
                _explain(call, tokenizer, earlier, known, table, problems)


def _read(call: Call, calls: Mapping[str, Call], sizings: Mapping[str, Sizing]) -> Iterator[tuple[str, str]]:
    """The parts of a call's component that stand for words, with the tokenizer whose words they are."""
    parts = sizings[call.target].declared.kind.parts
    if EMBEDDING in parts:
        for ref in (ref for _, arg in call.args for ref in refs_in(arg)):
            value = calls[ref.call].type.at(ref.path)
            if isinstance(value, TextType):
                yield EMBEDDING, value.tokenizer
    elif isinstance(call.type, LogitsType) and call.type.text is not None:
        yield from ((part, call.type.text.tokenizer) for part in parts)


def _owner(component: str, part: str, shares: Mapping[str, Mapping[str, str]]) -> Table:
    share = shares.get(component, {})
    source = share.get(part) or share.get(EVERYTHING, OWN)
    if source == OWN:
        return component, part
    owner, _, owner_part = source.partition(".")
    return _owner(owner, owner_part or part, shares)


def _alike(first: str, other: str, sizings: Mapping[str, Sizing]) -> bool:
    """Tell whether two tokenizers give a word the same number: those that are learnt have each its own texts."""
    if first == other or first not in sizings or other not in sizings:
        return True
    mine, its = sizings[first], sizings[other]
    if mine.declared.kind.name != its.declared.kind.name or "tokens" in mine.described:
        return False
    return bool(mine.written.model_dump(exclude=USES) == its.written.model_dump(exclude=USES))


def _explain(call: Call, tokenizer: str, earlier: Call, known: str, table: Table, problems: Problems) -> None:
    span: Span | None = call.span
    owner = f"`{call.target}`" if table[0] == call.target else f"`{call.target}`, which shares `{'.'.join(table)}`,"
    message = f"{owner} is of the words of `{tokenizer}` here, and of those of `{known}` elsewhere: one table of words"
    related = [(f"the words of `{known}`", earlier.span)] if earlier.span else []
    problems.add(message, span, "one tokenizer for both texts, or a table for each", related=related)

"""What a loss may read: logits and labels of one text, and never its own target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from compose_vlp.graph.checking.flow import explain_leak
from compose_vlp.graph.expanding.binding import Bound
from compose_vlp.graph.language.names import Declared
from compose_vlp.graph.plan import Ref, refs_in
from compose_vlp.graph.types import Flow, LabelsType, LogitsType, MaskType, TextType, ValueType

if TYPE_CHECKING:
    from compose_vlp.graph.expanding.substitute import Substitution


def check_loss(substitution: Substitution, declared: Declared, bound: Sequence[Bound]) -> bool:
    """Whether the values that a loss reads go together; notes what does not."""
    before = len(substitution.problems)
    _same_text(substitution, bound)
    foretells = declared.kind.traits.foretells
    if foretells != "nothing":
        _vocabulary(substitution, bound)
        _every_word(substitution, bound)
    if len(substitution.problems) == before:
        if foretells == "next":
            _next(substitution, declared, bound)
        elif foretells == "hidden":
            _hidden(substitution, declared, bound)
    return len(substitution.problems) == before


# --- texts --------------------------------------------------------------------------------------------------------


def _standing(bound: Sequence[Bound]) -> Iterator[tuple[Bound, Ref, LogitsType | LabelsType, TextType]]:
    for one in bound:
        for ref, value in zip(refs_in(one.given.arg), one.values(), strict=True):
            if isinstance(value, LogitsType | LabelsType) and value.text is not None:
                yield one, ref, value, value.text


def _same_text(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """All logits and labels of one loss stand on one text, position by position."""
    first: tuple[Bound, LogitsType | LabelsType, TextType] | None = None
    for one, _, value, text in _standing(bound):
        if first is None:
            first = (one, value, text)
            continue
        other, other_value, other_text = first
        if text.root != other_text.root:
            pair = sorted(((other, other_value, other_text), (one, value, text)), key=lambda x: x[1].kind)
            said = ", ".join(
                f"{b.key} {'are of' if isinstance(v, LabelsType) else 'stand on'} `{t.root}`" for b, v, t in pair
            )
            logits = next((b for b, v, _ in pair[::-1] if isinstance(v, LogitsType)), one)
            substitution.problems.add(said, logits.given.span)
            return


def _every_word(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """Scores that foretell words have a position for each of them, and no other one."""
    for one, _, value, text in _standing(bound):
        if isinstance(value, LogitsType) and value.count is not None and not value.count.may_be(text.count):
            hint = "`.tokens` leaves a CLS out: one behind the words is none of them, one in front is the first of them"
            message = f"`{one.given.text}` has {value.count}, and its text `{text.root}` {text.count}"
            substitution.problems.add(message, one.given.span, hint)
            return


def _next(substitution: Substitution, declared: Declared, bound: Sequence[Bound]) -> None:
    """A word must not reach the position that has to foretell it."""
    found = False
    for _, ref, value, text in _standing(bound):
        if not isinstance(value, LogitsType):
            continue
        found = True
        if value.reads.get(text.root, Flow.EACH) > Flow.PAST:
            explain_leak(substitution, declared, ref, text.root)
    logits = next((one for one in bound if any(isinstance(v, LogitsType) for v in one.values())), None)
    if not found and logits is not None:
        message = f"`{logits.given.text}` stands on no text, so there is no next word to foretell"
        substitution.problems.add(message, logits.given.span)


def _hidden(substitution: Substitution, declared: Declared, bound: Sequence[Bound]) -> None:
    """A text whose words are hidden must not be reached as it was."""
    covered = frozenset[str]().union(*(_covers(value) for one in bound for value in one.values()))
    for one in bound:
        for ref, value in zip(refs_in(one.given.arg), one.values(), strict=True):
            if isinstance(value, LogitsType) and not one.port.detached:
                for root in sorted(covered & value.reads.keys()):
                    explain_leak(substitution, declared, ref, root, hidden=True)
                    return


def _covers(value: ValueType) -> frozenset[str]:
    """What was hidden to make these labels, or by this mask."""
    if isinstance(value, LabelsType) and value.text is not None:
        return value.text.covers
    return value.covers if isinstance(value, MaskType) else frozenset()


def _vocabulary(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """Scores over the words of a text are as many as its tokenizer has words."""
    for one, _, value, text in _standing(bound):
        if isinstance(value, LogitsType) and value.classes and text.vocab_size and value.classes != text.vocab_size:
            message = f"classes {value.classes} of {one.given.text} against vocab_size {text.vocab_size} of {text.root}"
            substitution.problems.add(message, one.given.span)
            return

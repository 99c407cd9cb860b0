"""What a loss may read: logits and labels of one text, and never its own target."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
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
    """A text whose words are hidden must not be reached as it was, nor with other ones of its words hidden."""
    own = {value.root for one in bound for value in map(_hiding, one.values()) if value is not None}
    made_from = {
        hiding.root: hiding.covers
        for call in substitution.calls.done.values()
        for value in (call.type, *call.type.members().values())
        if (hiding := _hiding(value)) is not None and hiding.covers
    }
    covered = frozenset[str]().union(*(_origins(root, made_from) for root in own))
    for one in bound:
        for ref, value in zip(refs_in(one.given.arg), one.values(), strict=True):
            if isinstance(value, LogitsType) and not one.port.detached:
                for root in sorted(value.reads.keys() - own):
                    origins = _origins(root, made_from)
                    if not origins & own and covered & {root, *origins}:  # what is made of one's own hides as much
                        explain_leak(substitution, declared, ref, root, hidden=_seen(root, own, covered))
                        return


def _seen(root: str, own: Iterable[str], covered: Container[str]) -> str:
    """What messages say of a text that shows what was hidden in `own`."""
    if root in covered:
        return f"`{root}` itself reaches the logits that must foretell its hidden words"
    names = " and ".join(f"`{one}`" for one in sorted(own))
    return f"`{root}` has other words hidden, and reaches logits that must foretell those of {names}"


def _hiding(value: ValueType) -> TextType | MaskType | None:
    """What has a part hidden: a text, that of labels, or a mask of patches."""
    if isinstance(value, LabelsType):
        return value.text
    return value if isinstance(value, TextType | MaskType) else None


def _origins(root: str, made_from: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """All that a text was made from by hiding, and what that was made from."""
    direct = made_from.get(root, frozenset())
    return direct.union(*(_origins(one, made_from) for one in direct))


def _vocabulary(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """Scores over the words of a text are as many as its tokenizer has words."""
    for one, _, value, text in _standing(bound):
        if isinstance(value, LogitsType) and value.classes and text.vocab_size and value.classes != text.vocab_size:
            message = f"classes {value.classes} of {one.given.text} against vocab_size {text.vocab_size} of {text.root}"
            substitution.problems.add(message, one.given.span)
            return

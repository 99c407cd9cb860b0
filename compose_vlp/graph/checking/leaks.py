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
    """Check whether the values that a loss reads go together; notes what does not."""
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
    for argument in bound:
        for ref, value in zip(refs_in(argument.given.arg), argument.values(), strict=True):
            if isinstance(value, LogitsType | LabelsType) and value.text is not None:
                yield argument, ref, value, value.text


def _same_text(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """All logits and labels of one loss stand on one text, position by position."""
    first: tuple[Bound, LogitsType | LabelsType, TextType] | None = None
    for argument, _, value, text in _standing(bound):
        if first is None:
            first = (argument, value, text)
            continue
        other, other_value, other_text = first
        if text.root != other_text.root:
            pair = sorted(((other, other_value, other_text), (argument, value, text)), key=lambda x: x[1].kind)
            message = ", ".join(
                f"{b.key} {'are of' if isinstance(v, LabelsType) else 'stand on'} `{t.root}`" for b, v, t in pair
            )
            logits = next((b for b, v, _ in pair[::-1] if isinstance(v, LogitsType)), argument)
            substitution.problems.add(message, logits.given.span)
            return


def _every_word(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """Scores that foretell words have a position for each of them, and no other one."""
    for argument, _, value, text in _standing(bound):
        if isinstance(value, LogitsType) and value.count is not None and not value.count.may_be(text.count):
            hint = "`.tokens` leaves a CLS out: one behind the words is none of them, one in front is the first of them"
            message = f"`{argument.given.text}` has {value.count}, and its text `{text.root}` {text.count}"
            substitution.problems.add(message, argument.given.span, hint)
            return


def _next(substitution: Substitution, declared: Declared, bound: Sequence[Bound]) -> None:
    """A word must not reach the position that has to foretell it."""
    has_scores = False
    for _, ref, value, text in _standing(bound):
        if not isinstance(value, LogitsType):
            continue
        has_scores = True
        if value.reads.get(text.root, Flow.EACH) > Flow.PAST:
            explain_leak(substitution, declared, ref, text.root)
    logits = next((argument for argument in bound if any(isinstance(v, LogitsType) for v in argument.values())), None)
    if not has_scores and logits is not None:
        message = f"`{logits.given.text}` stands on no text, so there is no next word to foretell"
        substitution.problems.add(message, logits.given.span)


def _hidden(substitution: Substitution, declared: Declared, bound: Sequence[Bound]) -> None:
    """A text whose words are hidden must not be reached as it was, nor with other ones of its words hidden."""
    own = {value.root for argument in bound for value in map(_hiding, argument.values()) if value is not None}
    made_from = {
        hiding.root: hiding.covers
        for call in substitution.calls.done.values()
        for value in (call.type, *call.type.members().values())
        if (hiding := _hiding(value)) is not None and hiding.covers
    }
    covered = frozenset[str]().union(*(_origins(root, made_from) for root in own))
    for argument in bound:
        for ref, value in zip(refs_in(argument.given.arg), argument.values(), strict=True):
            if isinstance(value, LogitsType) and not argument.port.detached:
                for root in sorted(value.reads.keys() - own):
                    origins = _origins(root, made_from)
                    if not origins & own and covered & {root, *origins}:  # what is made of one's own hides as much
                        explain_leak(substitution, declared, ref, root, hidden=_seen(root, own, covered))
                        return


def _seen(root: str, own: Iterable[str], covered: Container[str]) -> str:
    """Describe, for messages, a text that shows what was hidden in `own`."""
    if root in covered:
        return f"`{root}` itself reaches the logits that must foretell its hidden words"
    names = " and ".join(f"`{root}`" for root in sorted(own))
    return f"`{root}` has other words hidden, and reaches logits that must foretell those of {names}"


def _hiding(value: ValueType) -> TextType | MaskType | None:
    """Find what has a part hidden: a text, that of labels, or a mask of patches."""
    if isinstance(value, LabelsType):
        return value.text
    return value if isinstance(value, TextType | MaskType) else None


def _origins(root: str, made_from: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """All that a text was made from by hiding, and what that was made from."""
    direct = made_from.get(root, frozenset())
    return direct.union(*(_origins(root, made_from) for root in direct))


def _vocabulary(substitution: Substitution, bound: Sequence[Bound]) -> None:
    """Scores over the words of a text are as many as its tokenizer has words."""
    for argument, _, value, text in _standing(bound):
        if isinstance(value, LogitsType) and value.classes and text.vocab_size and value.classes != text.vocab_size:
            message = (
                f"classes {value.classes} of {argument.given.text} against vocab_size {text.vocab_size} of {text.root}"
            )
            substitution.problems.add(message, argument.given.span)
            return

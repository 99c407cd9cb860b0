"""Similarities remember what they compare, so those that belong together must mirror each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from compose_vlp.blueprint.inputs import ImageInput, Input
from compose_vlp.graph.expanding.binding import Bound
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.signature import matching
from compose_vlp.graph.types import SimilarityType

Side = tuple[Bound, list[SimilarityType]]


def check_mirrors(bound: Sequence[Bound], inputs: Mapping[str, Input], problems: Problems) -> bool:
    """Whether the similarities of one call go together; notes those that do not.

    Those in one list go from rows to columns and back, each as often; lists side by side compare the same at each
    place. Of two ports that take one each, what they are declared to compare decides, or the names of the dimensions:
    `a b` and `b a` mirror each other, `a b` twice is the same.
    """
    found = [(one, [value for value in one.values() if isinstance(value, SimilarityType)]) for one in bound]
    sides = [(one, scores) for one, scores in found if scores]
    lists = [(one, scores) for one, scores in sides if one.port.several]
    before = len(problems)
    for one, scores in lists:
        if len(scores) == 2 and scores[1].sides != scores[0].sides[::-1]:
            first, second = (_words(score) for score in scores)
            message = f"`{one.given.text}` compares {first}, then {second}: the second must mirror the first"
            problems.add(message, one.given.span, "one similarity from rows to columns, one back")
        elif len(scores) > 2 and Counter(score.sides for score in scores) != Counter(
            score.sides[::-1] for score in scores
        ):
            said = "; ".join(_words(score) for score in scores)
            message = f"`{one.given.text}` compares {said}: some direction is there more often than its mirror"
            problems.add(message, one.given.span, "each similarity from rows to columns, and once back")
    if len(problems) == before:
        for other in lists[1:]:
            _side_by_side(lists[0], other, problems)
        single = [(one, scores) for one, scores in sides if not one.port.several]
        if len(single) == 2:
            _pair(single[0], single[1], problems)
        for one, (score,) in single:
            if len(problems) == before:  # of two swapped arguments one is told
                _right_sides(one, score, inputs, problems)
    return len(problems) == before


def _side_by_side(first: Side, second: Side, problems: Problems) -> None:
    (one, scores), (other, theirs) = first, second
    if len(scores) != len(theirs):
        message = f"similarities in `{other.key}`: {len(theirs)}, and in `{one.key}`: {len(scores)}"
        problems.add(message, other.given.span)
        return
    for place, (mine, its) in enumerate(zip(scores, theirs, strict=True), 1):
        if mine.sides != its.sides:
            message = f"`{other.key}` compares {_words(its)} at place {place}, and `{one.key}` {_words(mine)}"
            problems.add(message, other.given.span, "both lists go from the same side at each place")
            return


def _pair(first: Side, second: Side, problems: Problems) -> None:
    (one, (mine,)), (other, (its,)) = first, second
    ours, theirs = _ends(one, mine), _ends(other, its)
    if len(ours) < 2 or set(ours) != set(theirs):
        return
    mirrored = ours == theirs[::-1]
    if its.sides != (mine.sides[::-1] if mirrored else mine.sides):
        wanted = "must mirror" if mirrored else "must compare the same as"
        message = f"`{other.key}` compares {_words(its)}, and {wanted} `{one.key}`, which compares {_words(mine)}"
        problems.add(message, other.given.span)


def _ends(one: Bound, score: SimilarityType) -> tuple[str, ...]:
    """What a port takes from rows to columns: as declared, or else by the names of its dimensions."""
    if one.port.compares is not None:
        return one.port.compares.rows, one.port.compares.columns
    pattern = matching(one.port, score)
    return () if pattern is None else pattern.dims


def _right_sides(one: Bound, score: SimilarityType, inputs: Mapping[str, Input], problems: Problems) -> None:
    """Whether a similarity goes the way that its port says: swapped arguments would fit otherwise."""
    if one.port.compares is None:
        return
    rows, columns = one.port.compares.rows, one.port.compares.columns
    if rows == columns and score.sides[0] != score.sides[1]:
        message = f"`{one.key}` compares {_words(score)}, and takes {rows} compared with each other"
        problems.add(message, one.given.span)
    shown = tuple("images" if any(isinstance(inputs.get(name), ImageInput) for name in side) else "texts"
                  for side in score.sides)  # fmt: skip
    if rows != columns and shown == (columns, rows):
        message = f"`{one.key}` compares {_words(score)}, and goes from {rows} to {columns}: are the arguments swapped?"
        problems.add(message, one.given.span)


def _words(score: SimilarityType) -> str:
    return " with ".join("+".join(sorted(side)) or "nothing" for side in score.sides)

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
    """Check whether the similarities of one call go together; notes those that do not.

    Those in one list go from rows to columns and back, each as often; lists side by side compare the same at each
    place. Of two ports that take one each, what they are declared to compare decides, or the names of the dimensions:
    `a b` and `b a` mirror each other, `a b` twice is the same.
    """
    scored = [
        (argument, [value for value in argument.values() if isinstance(value, SimilarityType)]) for argument in bound
    ]
    sides = [(argument, scores) for argument, scores in scored if scores]
    lists = [(argument, scores) for argument, scores in sides if argument.port.several]
    before = len(problems)
    for argument, scores in lists:
        if len(scores) == 2 and scores[1].sides != scores[0].sides[::-1]:
            first, second = (_words(score) for score in scores)
            message = f"`{argument.given.text}` compares {first}, then {second}: the second must mirror the first"
            problems.add(message, argument.given.span, "one similarity from rows to columns, one back")
        elif len(scores) > 2 and Counter(score.sides for score in scores) != Counter(
            score.sides[::-1] for score in scores
        ):
            comparisons = "; ".join(_words(score) for score in scores)
            message = (
                f"`{argument.given.text}` compares {comparisons}: some direction is there more often than its mirror"
            )
            problems.add(message, argument.given.span, "each similarity from rows to columns, and once back")
    if len(problems) == before:
        for other in lists[1:]:
            _side_by_side(lists[0], other, problems)
        single = [(argument, scores) for argument, scores in sides if not argument.port.several]
        if len(single) == 2:
            _pair(single[0], single[1], problems)
        for argument, (score,) in single:
            if len(problems) == before:  # of two swapped arguments one is told
                _right_sides(argument, score, inputs, problems)
    return len(problems) == before


def _side_by_side(first: Side, second: Side, problems: Problems) -> None:
    (argument, scores), (other, other_scores) = first, second
    if len(scores) != len(other_scores):
        message = f"similarities in `{other.key}`: {len(other_scores)}, and in `{argument.key}`: {len(scores)}"
        problems.add(message, other.given.span)
        return
    for place, (mine, its) in enumerate(zip(scores, other_scores, strict=True), 1):
        if mine.sides != its.sides:
            message = f"`{other.key}` compares {_words(its)} at place {place}, and `{argument.key}` {_words(mine)}"
            problems.add(message, other.given.span, "both lists go from the same side at each place")
            return


def _pair(first: Side, second: Side, problems: Problems) -> None:
    (argument, (mine,)), (other, (its,)) = first, second
    ours, other_ends = _ends(argument, mine), _ends(other, its)
    if len(ours) < 2 or set(ours) != set(other_ends):
        return
    mirrored = ours == other_ends[::-1]
    if its.sides != (mine.sides[::-1] if mirrored else mine.sides):
        requirement = "must mirror" if mirrored else "must compare the same as"
        message = (
            f"`{other.key}` compares {_words(its)}, and {requirement} `{argument.key}`, which compares {_words(mine)}"
        )
        problems.add(message, other.given.span)


def _ends(argument: Bound, score: SimilarityType) -> tuple[str, ...]:
    """Give what a port takes from rows to columns: as declared, or else by the names of its dimensions."""
    if argument.port.compares is not None:
        return argument.port.compares.rows, argument.port.compares.columns
    pattern = matching(argument.port, score)
    return () if pattern is None else pattern.dims


def _right_sides(argument: Bound, score: SimilarityType, inputs: Mapping[str, Input], problems: Problems) -> None:
    """Tell whether a similarity goes the way that its port says: swapped arguments would fit otherwise."""
    if argument.port.compares is None:
        return
    rows, columns = argument.port.compares.rows, argument.port.compares.columns
    if rows == columns and score.sides[0] != score.sides[1]:
        message = f"`{argument.key}` compares {_words(score)}, and takes {rows} compared with each other"
        problems.add(message, argument.given.span)
    shown = tuple("images" if any(isinstance(inputs.get(name), ImageInput) for name in side) else "texts"
                  for side in score.sides)  # fmt: skip
    if rows != columns and shown == (columns, rows):
        message = (
            f"`{argument.key}` compares {_words(score)}, and goes from {rows} to {columns}: are the arguments swapped?"
        )
        problems.add(message, argument.given.span)


def _words(score: SimilarityType) -> str:
    return " with ".join("+".join(sorted(side)) or "nothing" for side in score.sides)

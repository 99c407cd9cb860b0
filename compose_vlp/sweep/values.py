"""A blueprint with each value of one path, where these are compared and not trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, Problem
from compose_vlp.sweep.reading import factors_of_words
from compose_vlp.sweep.words import at_their_words, layered, split


def blueprints_of_values(
    words: Sequence[str], vary: str, plugins: Sequence[Path] = ()
) -> tuple[str, dict[str, Blueprint]]:
    """Read `path=first|second`; give the path, and the blueprint of `words` with each value, in their order.

    Raises:
        BlueprintError: the mistakes of `vary` itself, or else those of all values, each once, with the values that
            have it.
    """
    source, base, (factor,) = factors_of_words(words, [vary])
    if factor.range is not None:
        hint = f"values stand between bars: --vary '{factor.name}=1|2|4'"
        problem = Problem(f"`{factor.name}` has a range, and each value is to be named", factor.key.span, (hint,))
        raise BlueprintError([problem], {source.name: source.lines})
    blueprints: dict[str, Blueprint] = {}
    problems: dict[Problem, list[str]] = {}
    lines: dict[str, Sequence[str]] = {source.name: source.lines}
    for level in factor.levels:
        own = layered(base, level.words)
        names, overrides = split(own)
        try:
            loaded = Blueprint.load(
                *(word.text for word in names), overrides=[word.text for word in overrides], plugins=plugins
            )
            loaded.check()
        except BlueprintError as error:
            for problem in at_their_words(error.problems, own):
                problems.setdefault(problem, []).append(level.name)
            lines = {**error.excerpts, **lines}
            continue
        blueprints[level.name] = loaded
    if problems:
        with_values = [_with_values(problem, factor.name, values) for problem, values in problems.items()]
        raise BlueprintError(with_values, lines)
    return factor.name, blueprints


def _with_values(problem: Problem, path: str, values: Sequence[str]) -> Problem:
    return replace(problem, message=f"{problem.message} (with `{path}={'|'.join(values)}`)")

"""The score that stands for a task where one is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

MAIN: Final[Mapping[str, str]] = {"retrieval": "mean_recall", "reranking": "mean_recall", "captioning": "cider"}
"""What the field reports of a task; of other tasks the first score."""


def main_scores(names: Iterable[str]) -> list[str]:
    """Choose one score for each task, in the order of tasks: the one that stands for it, or else the first.

    Names are such as `captioning.cider`, or `captioning.cider on flickr` where there are several data sets.
    """
    chosen: dict[str, str] = {}
    for name in names:
        task = name.partition(".")[0]
        if task not in chosen or (_is_main(name) and not _is_main(chosen[task])):
            chosen[task] = name
    return list(chosen.values())


def _is_main(name: str) -> bool:
    task, _, own = name.partition(" on ")[0].partition(".")
    return MAIN.get(task) == own

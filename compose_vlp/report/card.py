"""A card for exported weights: what they are, what they were trained on, and what was measured."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.blueprint.write import lines
from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.readable import count, visible
from compose_vlp.report.loose import other_seeds
from compose_vlp.report.statistics import estimate
from compose_vlp.run import Run
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, read_scores

NAME: Final = "README.md"
"""What hubs of models show beside the weights."""
MARK: Final = "<!-- a card of compose-vlp -->"
HEAD: Final = f"""\
---
library_name: compose-vlp
tags: [vision-language]
# license: say here under which licence the weights may be used
---
{MARK}
"""
TOLD: Final = ("params", "teachers", "graph", "losses", "outputs", "freeze", "optimizer", "precision", "stages")
"""Sections of the blueprint that a card shows: none of them holds a path."""
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]#|~$])")
_ADDRESS: Final = re.compile(r"https?://[\w./~%?=&:+-]+")


Facts = Sequence[tuple[str, str]]
"""Rows about the files, by their headings."""


def refuse_in_the_way(folder: Path) -> None:
    """Refuse to write over a README that is no card of ours.

    Raises:
        UserError: there is one in the folder.
    """
    card = folder / NAME
    if card.exists() and (not card.is_file() or MARK not in card.read_text(encoding="utf-8", errors="replace")):
        raise UserError(f"{card} is there, and no card of compose-vlp", hints=("export into a folder of its own",))


def write_card(run: Run, folder: Path, files: Facts) -> Path:
    """Write the card beside the exported files, over an earlier one.

    Raises:
        UserError: the run's scores are damaged, or the card cannot be written.
    """
    path = folder / NAME
    try:
        write_atomic(path, card(run, files))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def card(run: Run, files: Facts) -> str:
    """Tell in Markdown what the weights are. Whatever stands in a name or a title is shown as it is, and does nothing.

    Neither the run's command line nor paths of its data are told, since the file is for others; what was changed for a
    measurement stands as it was typed.
    """
    body = "\n\n".join(_sections(run, files))
    return f"{HEAD}\n{body}\n"


def _sections(run: Run, files: Facts) -> Iterator[str]:
    document = run.blueprint.document
    yield f"# {plain(run.blueprint.name)}"
    if document.text("title"):
        yield plain(document.text("title"))
    yield _table(("", ""), _facts(run, files))
    yield "## Training"
    yield _table(("stage", "losses", "records of", "steps"), _stages(run))
    yield "## Scores"
    beside = other_seeds(run.folder)
    scores = list(_scores(run, beside))
    yield (
        _table(("task", "data", "changed for it", "records", "step", "score", "value", "over seeds, 95 %"), scores)
        if scores
        else ("None were measured: `compose-vlp evaluate` measures.")
    )
    yield "## Parts"
    yield _table(("part", "kind", "parameters"), _parts(run))
    yield "## Blueprint"
    yield f"```yaml\n{_program(document)}```"


def _facts(run: Run, files: Facts) -> Iterator[tuple[str, str]]:
    info, paper = run.folder.info, run.blueprint.document.text("paper")
    yield from files
    yield "parameters", f"{sum(run.module.component_parameters().values()):,}"
    yield "weights of", str(run.weights)
    origins = [Path(start.origin).name for start in run.blueprint.start if start.origin]
    if origins:
        yield "began from", ", ".join(origins)
    yield "seed", str(info.seed)
    beside = [str(other.info.seed) for other in other_seeds(run.folder)]
    if beside:
        yield "trained alike with seeds", ", ".join(beside)
    yield "trained", f"{info.started[:10]}, on {info.extra.get('machine', {}).get('device', 'unknown')}"
    known = [f"{name} {info.versions[name]}" for name in ("compose-vlp", "torch") if name in info.versions]
    yield "versions", ", ".join(known)
    if paper:
        yield "paper", paper


def _stages(run: Run) -> Iterator[tuple[str, ...]]:
    done = run.folder.info.extra.get("stages", {})
    kinds = {name: entry.get("use") for name, entry in run.folder.info.extra.get("data", {}).items()}
    for name, stage in run.blueprint.stages.items():
        names = [stage.data] if isinstance(stage.data, str) else stage.data.values()
        read = ", ".join(f"{data} ({kinds[data]})" if kinds.get(data) else data for data in names)
        yield name, ", ".join(stage.losses), read, str(done.get(name, {}).get("steps", 0))


def _scores(run: Run, beside: Sequence[RunFolder]) -> Iterator[tuple[str, ...]]:
    others = [item for other in beside for item in read_scores(other)]
    for own in read_scores(run.folder):
        same = [item.scores for item in others if _measured_alike(item, own)]
        facts = own.task, own.data, "; ".join(own.changes), str(own.records), str(own.step)
        for name, value in own.scores.items():
            yield *facts, name, f"{value:.4f}", _over([value, *(scores[name] for scores in same if name in scores)])


def _measured_alike(item: Measurement, own: Measurement) -> bool:
    return (item.key, item.records, item.step) == (own.key, own.records, own.step)


def _over(values: Sequence[float]) -> str:
    """Write the mean over seeds with its interval; one seed says nothing of others."""
    own = estimate(values)
    return "one seed" if own.half is None else f"{own.mean:.4f} ± {own.half:.4f}, {own.seeds} seeds"


def _parts(run: Run) -> Iterator[tuple[str, ...]]:
    counts = run.module.component_parameters()
    for name, part in run.blueprint.components.items():
        yield name, part.kind.name, count(counts.get(name, 0))


def _program(document: Document) -> str:
    """Write what the model computes and how it was trained, without the sections that name files."""
    entries = tuple(entry for entry in document.root if entry.name in TOLD)
    shown = replace(document, root=Mapping(entries, document.root.span))
    return "".join(f"{visible(line.text)}\n" for line in lines(shown)).lstrip("\n")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *(list(map(plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is, in one row and as no element; an address is a link."""
    if _ADDRESS.fullmatch(text):
        return f"<{text}>"
    words = " ".join(visible(text).split())
    return _MARKDOWN.sub(r"\\\1", html.escape(words, quote=False))

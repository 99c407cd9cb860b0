"""A summary as files: a page to look at, and tables and plots for papers and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compose_vlp.errors import UserError
from compose_vlp.evaluation.page import Section, results_page
from compose_vlp.files import write_together
from compose_vlp.pages import Markup, join, table, tag
from compose_vlp.report import drawing, plots, tables
from compose_vlp.report.summary import COSTS, ScoreSummary, Summary

if TYPE_CHECKING:
    from pandas import DataFrame

INDEX: Final = "index.html"
CURVES: Final = 4
"""Curves that a report shows; all of them are in tracking."""
_STYLE: Final = """
.figure svg { width: 100%; height: auto; max-width: 46rem; }
.wide th, .wide td { text-align: left; white-space: nowrap; }
.wide td:last-child { white-space: normal; min-width: 15rem; }
h3 { margin-top: 1.2rem; }
"""


def write_report(summary: Summary, folder: Path) -> list[Path]:
    """Write `index.html`, `report.md`, `table.tex`, `numbers.csv`, `trials.csv` and the plots; gives the files.

    Raises:
        UserError: the folder cannot be written; what stood there before is whole.
    """
    drawings = draw(summary)
    texts = {
        INDEX: page(summary, drawings),
        "report.md": "".join(as_markdown(summary, drawings)),
        "table.tex": "\n".join(tables.latex(tables.cell_table(summary, own), own.score) for own in summary.scores),
        "numbers.csv": tables.numbers(summary).to_csv(index=False),
        "trials.csv": tables.trials(summary).to_csv(index=False),
        **{f"{name}.svg": drawing.for_file(svg) for name, (_, svg) in drawings.items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_together({folder / name: text for name, text in texts.items()})
    except OSError as error:
        raise UserError(
            f"cannot write the report to {folder}: {error.strerror}", hints=("`--out` names another",)
        ) from error
    return [folder / name for name in texts]


def draw(summary: Summary) -> dict[str, tuple[str, str]]:
    """Draw everything that there is something to draw of: titles and SVG by file name."""
    drawings: dict[str, tuple[str, str]] = {}
    main = summary.main
    compared = {row.cell: row.difference for row in main.cells if row.difference is not None}
    if compared:
        title = f"{main.score}, difference to {summary.study.baseline}"
        drawings["differences"] = (title, plots.difference_plot(title, compared))
    known = {effect.name: effect.difference for effect in main.effects if effect.difference is not None}
    if known:
        title = f"{main.score}, effects"
        drawings["effects"] = (title, plots.difference_plot(title, known))
    for cost in COSTS:
        spent = {getattr(summary.costs[row.cell], cost) for row in main.cells if row.estimate is not None} - {None}
        if len(spent) > 1:
            drawings[f"front_{cost}"] = (f"{main.score} against {cost}", plots.front_plot(summary, main.score, cost))
    for number, metric in enumerate(plots.metrics_of(summary.study)[:CURVES]):
        drawings[f"curve_{number}"] = (metric, plots.curve_plot(summary.study, metric))
    return drawings


def page(summary: Summary, drawings: Mapping[str, tuple[str, str]]) -> str:
    """One file that needs no other, light and dark."""
    study = summary.study
    sections = [Section(own.score, join(_tables(own, summary))) for own in summary.scores[:1]]
    if summary.notes:
        sections.append(Section("To be known", tag("ul", *(tag("li", note) for note in summary.notes))))
    sections += [
        Section(title, tag("div", Markup(drawing.for_page(svg)), class_="figure")) for title, svg in drawings.values()
    ]
    sections.append(Section("Cost", _table(tables.cost_table(summary)), "means over the seeds of a cell"))
    sections += [Section(own.score, join(_tables(own, summary))) for own in summary.scores[1:]]
    return results_page(study.name, study.question, sections, dict(study.settings), style=_STYLE)


def as_markdown(summary: Summary, drawings: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the report as Markdown, piece by piece; plots are files beside it."""
    study = summary.study
    yield f"# {study.name}\n"
    if study.question:
        yield f"\n{study.question}\n"
    if study.settings:
        yield "\n" + "".join(f"- {name}: {value}\n" for name, value in study.settings.items())
    for own in summary.scores:
        yield f"\n## {own.score}\n\n{tables.markdown(tables.cell_table(summary, own))}"
        if own.effects:
            yield f"\n{tables.markdown(tables.effect_table(own.effects))}"
    yield f"\n## Cost\n\n{tables.markdown(tables.cost_table(summary))}"
    if summary.notes:
        yield "\n## To be known\n\n" + "".join(f"- {note}\n" for note in summary.notes)
    for name, (title, _) in drawings.items():
        yield f"\n![{title}]({name}.svg)\n"


def _tables(own: ScoreSummary, summary: Summary) -> Iterator[Markup]:
    yield _table(tables.cell_table(summary, own))
    if own.effects:
        yield tag("h3", "Effects")
        yield _table(tables.effect_table(own.effects))


def _table(frame: DataFrame) -> Markup:
    return table(list(map(str, frame.columns)), [list(row) for row in frame.itertuples(index=False)])

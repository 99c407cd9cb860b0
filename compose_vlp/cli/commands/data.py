"""`compose-vlp data`: a data set looked over, and what a model will see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from compose_vlp.cli.console import err, mistakes, out, print_json
from compose_vlp.cli.options import Json, Plugins, load
from compose_vlp.data.detect_source import is_data, settings_of
from compose_vlp.errors import UserError
from compose_vlp.readable import percent, several

if TYPE_CHECKING:
    from compose_vlp.data.collate import Collator
    from compose_vlp.data.source import Source
    from compose_vlp.data.survey import Spread, Survey
    from compose_vlp.evaluation.seeing import TokenLengths

EXAMPLES = (
    ("a table of captions, with its pictures beside it", "compose-vlp data captions.csv"),
    ("COCO", "compose-vlp data captions_train2017.json --images train2017"),
    ("every record of some shards, for a script", "compose-vlp data 'web-{000..031}.tar' --limit 0 --json"),
    ("shards of an object store", "compose-vlp data 's3://bucket/web-{000..031}.tar'"),
    ("what a model will see of an entry of its blueprint", "compose-vlp data mine.yaml --data pairs"),
)
FEW = 5
"""So many different texts are classes, and named."""
MOST_BROKEN = 10
"""Broken records that are printed; `--json` has all."""


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE | BLUEPRINT CHANGE...",
            help="A file (.csv, .tsv, .jsonl, .json of COCO or Karpathy, .tar, .parquet) or a folder, of a store "
            "too (s3://bucket/web/); or a blueprint with changes.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME", help="An entry of the blueprint's `data`; the last stage's if left out."
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", metavar="FOLDER", help="Where a file's pictures are, if not beside it.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Records to read, evenly spread; 0 reads all.")] = 20_000,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page", metavar="FILE", help="Write the page here; NAME_DATA.html if left out.", show_default=False
        ),
    ] = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Look a data set over, and see what a model will see of it.

    Counts records, sizes of pictures, lengths of captions, copies and broken records. With a blueprint it also counts
    tokens, and writes a page: pictures after augmentation, captions as tokens, padding.
    """
    if is_data(words[0]):
        if len(words) > 1 or data is not None or page is not None:
            raise UserError("a page, `--data` and changes need a blueprint", hints=[f"{words[0]!r} is taken as data"])
        _look_over(words[0], images, limit, as_json)
        return
    if images is not None:
        raise UserError("`--images` belongs to a file of captions; a blueprint's entry says it itself")
    _through_blueprint(words, data, limit, page, plugins, as_json)


def _look_over(path: str, images: str | None, limit: int, as_json: bool) -> None:
    from compose_vlp.data.diagnosis import further_fields, why_nothing_is_used
    from compose_vlp.data.source import open_source

    settings = settings_of(path, images)
    source = open_source(settings)
    survey = surveyed(source, limit)
    fields = further_fields(survey)
    entry = {**settings, "fields": fields} if fields else settings
    guesses = why_nothing_is_used(source, survey) if len(survey.broken) == survey.read else []
    if as_json:
        print_json({"source": entry, "notes": source.notes, "guesses": guesses, **survey.as_json()})
    else:
        show(survey, out())
        for note in source.notes:
            err().print(f"note: {note}", style="dim", soft_wrap=True)
    if len(survey.broken) == survey.read:
        raise _nothing_is_used(guesses)
    if not as_json:
        out().print(f"In a blueprint: data: {{pairs: {_written(entry)}}}", soft_wrap=True, markup=False)


def _nothing_is_used(guesses: Sequence[str]) -> typer.Exit:
    mistakes().print("No record can be used.", soft_wrap=True)
    for guess in guesses:
        mistakes().print(f"  = {guess}", soft_wrap=True, markup=False)
    return typer.Exit(1)


def _through_blueprint(
    words: list[str], data: str | None, limit: int, page: Path | None, plugins: list[Path] | None, as_json: bool
) -> None:
    from compose_vlp.data.diagnosis import why_nothing_is_used
    from compose_vlp.evaluation.data_page import data_page
    from compose_vlp.evaluation.seeing import opened, see
    from compose_vlp.files import write_atomic

    blueprint = load(words, plugins).check()
    name, source, has_fields = opened(blueprint, data)
    if not has_fields and len((survey := surveyed(source, limit)).broken) == survey.read:
        guesses = why_nothing_is_used(source, survey)
        if as_json:
            print_json({"data": name, "guesses": guesses, **survey.as_json()})
        else:
            show(survey, out())
        raise _nothing_is_used(guesses)
    sight = see(blueprint, data)
    survey = surveyed(sight.source, limit, sight.collator())
    guesses = why_nothing_is_used(sight.source, survey) if len(survey.broken) == survey.read else []
    tokens = sight.token_lengths(limit)
    file = page or Path(f"{blueprint.name}_{sight.name}.html")
    write_atomic(file, data_page(sight, survey, tokens, title=f"{blueprint.name}: {sight.name}"))
    if as_json:
        counted = {name: lengths.as_json() for name, lengths in tokens.items()}
        print_json({"data": sight.name, "page": str(file), "tokens": counted, "guesses": guesses, **survey.as_json()})
    else:
        show(survey, out(), tokens)
        for note in sight.notes:
            err().print(f"note: {note}", style="dim")
        out().print(f"What the model sees: {file}", soft_wrap=True)
    if len(survey.broken) == survey.read:
        raise _nothing_is_used(guesses)


def surveyed(source: Source, limit: int, collator: Collator | None = None) -> Survey:
    """Look the source over, with a bar on a terminal; see `compose_vlp.data.survey.survey`."""
    from compose_vlp.data.survey import spread_evenly, survey

    indices = spread_evenly(len(source), limit)
    with _bar(len(indices)) as tick:
        return survey(source, indices, tick, collator)


@contextmanager
def _bar(count: int) -> Iterator[Callable[[int], None]]:
    console = err()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("records", total=count)
        yield lambda done: bar.update(task, completed=done)


def show(survey: Survey, console: Console, tokens: dict[str, TokenLengths] | None = None) -> None:
    """Print what was found."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in lines(survey, tokens or {}):
        table.add_row(name, value)
    console.print(table)
    for index, reason in list(survey.broken.items())[:MOST_BROKEN]:
        console.print(f"  record {index}: {reason}", soft_wrap=True)
    if len(survey.broken) > MOST_BROKEN:
        console.print(f"  and {len(survey.broken) - MOST_BROKEN} more; `--json` names all")


def lines(survey: Survey, tokens: dict[str, TokenLengths]) -> Iterator[tuple[str, str]]:
    """Yield what was found, a line each: what, and how much."""
    share = "" if survey.read == survey.records else f", of which {survey.read:,} were read (`--limit 0` reads all)"
    yield "records", f"{survey.records:,}{share}"
    for name, pictures in survey.pictures.items():
        few = ", ".join(f"{size} ({count:,})" for size, count in list(pictures.sizes.items())[:3])
        yield name, f"{several(pictures.count, 'picture')}, {_copies(pictures.copies)}"
        yield "", f"width {_spread(pictures.width)}, height {_spread(pictures.height)}; mostly {few}"
    for name, texts in survey.texts.items():
        if texts.count - texts.copies <= FEW and texts.copies:
            yield (
                name,
                f"{several(texts.count, 'text')}: " + ", ".join(f"{t} ({n:,})" for t, n in texts.repeated.items()),
            )
            continue
        empty = f", {texts.empty:,} empty" if texts.empty else ""
        yield name, f"{several(texts.count, 'text')}, {_spread(texts.each)} a record, {_copies(texts.copies)}{empty}"
        yield "", f"words {_spread(texts.words)}"
    for name, values in survey.others.items():
        few = ", ".join(f"{value} ({count:,})" for value, count in list((values or {}).items())[:6])
        yield name, few or "other values"
    for name, lengths in tokens.items():
        cut = (
            f"; {percent(lengths.cut)} are longer than {lengths.frame} and cut"
            if lengths.cut
            else f"; none is cut at {lengths.frame}"
        )
        yield f"input {name}", f"tokens {_spread(lengths.lengths)}{cut}"
    yield "broken", f"{len(survey.broken):,} ({percent(len(survey.broken) / max(1, survey.read))})"


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.most:,.0f}"
    return f"{spread.least:,.0f} to {spread.most:,.0f} (median {spread.median:,.0f})"


def _copies(count: int) -> str:
    return f"{count:,} of them {'a copy' if count == 1 else 'copies'}" if count else "no two alike"


def _written(settings: dict[str, Any]) -> str:
    """Settings as a blueprint has them."""
    import yaml

    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    text: str = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text.strip()

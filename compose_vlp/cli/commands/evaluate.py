"""`compose-vlp evaluate`: what a trained model can do, in numbers and on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.options import Device, Json, Plugins, Run, load_run, print_note
from compose_vlp.readable import several

EXAMPLES = (
    ("on unseen drawn pictures", "compose-vlp evaluate runs/coca_tiny-1 data.pairs.split=unseen"),
    (
        "on captions of your own",
        "compose-vlp evaluate runs/coca_tiny-1 '+data.mine={use: jsonl, path: test.jsonl}' --data mine",
    ),
    ("retrieval alone, on 5,000 records", "compose-vlp evaluate runs/coca_tiny-1 --task retrieval --count 5000"),
    (
        "fine-tuned retrieval as the papers measure it",
        "compose-vlp evaluate runs/albef-1 --task retrieval --task reranking --top 256 --count 5000",
    ),
    (
        "classes that it was never taught as such",
        "compose-vlp evaluate runs/coca_tiny-1 --task zero_shot --label species --classes species.txt",
    ),
)


def command(
    run: Run,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHANGE", help="Changes of data or outputs: 'path=value', '+path={...}'.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="An entry of `data`; the last stage's if left out.")
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="Which task; all that outputs and data allow if left out."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=2, help="Records, the first ones.")] = 1000,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="FIELD", help="zero_shot: the field of a record's class; `label` if left out."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="FILE", help="zero_shot: names of the classes, a line each; those of the data else."
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option("--templates", metavar="FILE", help="zero_shot: texts with {} for the name, a line each."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="reranking: candidates of each query; 128 if left out.")
    ] = None,
    add_similarity: Annotated[
        bool, typer.Option("--add-similarity", help="reranking: add the cosine to the score of a match, as BLIP does.")
    ] = False,
    path: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write the page here; the run's reports if left out.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    plugins: Plugins = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every score by its name, too.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a trained model: retrieval, captions, zero-shot.

    Tasks are retrieval, reranking, captioning, zero_shot, classification (entailment, statements about two pictures,
    closed questions), answering (open questions) and grounding (where in the picture the words are); reranking is dear,
    and measured on request.

    Asks the model's outputs for what each task needs, prints the scores, and writes a page with pictures and captions.
    The records are those the model was trained with, unless `--data` or a change of `data` names others.
    """
    from compose_vlp.blueprint.sections import Rerank, ZeroShot
    from compose_vlp.evaluation.report import page_of, tiles_of
    from compose_vlp.evaluation.results import evaluate, possible_tasks
    from compose_vlp.files import write_atomic
    from compose_vlp.runtime.sources import declared_source, last_data
    from compose_vlp.runtime.state.digests import changed
    from compose_vlp.runtime.state.scores import Measurement, keep_scores, tracked_names
    from compose_vlp.tracking import add_to_run

    trained = load_run(run, plugins, device, changes)
    asker, name = trained.asker, data or last_data(trained.blueprint)
    source = declared_source(trained.blueprint, name)
    if data is None and not any(change.startswith(("data.", "+data.")) for change in changes or ()):
        err().print(
            f"note: on `{name}`, which it was trained with; `--data` or a change names other records",
            style="dim",
            soft_wrap=True,
        )
    if not trained.weights.whole:
        hint = f"`compose-vlp train --resume {trained.folder.path}` goes on with it"
        err().print(f"note: these weights are {trained.weights}; {hint}", style="dim", soft_wrap=True)
    before = trained.folder.info.extra.get("data", {})
    for other in changed(trained.blueprint, before, [name]):
        print_note(f"`{other}` holds something else than when the run was trained")
    options = {"label": label, "classes": classes, "templates": templates}
    zero_shot = ZeroShot(**{key: value for key, value in options.items() if value}) if any(options.values()) else None
    chosen = tasks or possible_tasks(asker, source, zero_shot)
    records = min(count, len(source))
    with ticking(records) as tick:
        rerank = Rerank(top=top or Rerank().top, add_similarity=add_similarity)
        results = evaluate(asker, source, chosen, records, tick, zero_shot, rerank)
    folder = path or trained.folder.reports
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.html"
    subtitle = f"{several(results.records, 'record')} of `{name}`; {trained.folder.path}, {trained.weights}"
    write_atomic(page, page_of(results, asker, source, title=trained.blueprint.name, subtitle=subtitle))
    step = trained.weights.step
    keep_scores(
        trained.folder,
        [
            Measurement(task, name, tuple(changes or ()), results.records, step, measured.flat())
            for task, measured in results.tasks.items()
        ],
    )
    if trained.folder.info.status != "RUNNING":
        named = tracked_names(name, results.scores)
        left = add_to_run(trained.folder.path, named, step, {f"reports/{page.name}": page}, trained.folder.info.status)
        if left:
            print_note(left)
    if as_json:
        about = {"run": str(trained.folder.path), "weights": trained.weights.as_json(), "data": name, "page": str(page)}
        print_json({**about, **results.as_json()})
        return
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False, padding=(0, 2, 0, 0))
    for tile in tiles_of(results):
        table.add_row(tile.label, tile.value, Text(tile.note or "", style="dim"))
    out().print(table)
    if verbose:
        for key, value in results.scores.items():
            out().print(f"{key} {value:.4f}", soft_wrap=True)
    out().print(f"Weights: {trained.weights}", soft_wrap=True)
    out().print(f"Pictures and captions: {page}", soft_wrap=True)


@contextmanager
def ticking(count: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar for each task, on a terminal."""
    console = err()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        known: dict[str, TaskID] = {}

        def tick(task: str, done: int) -> None:
            if task not in known:
                known[task] = bar.add_task(task, total=count)
            bar.update(known[task], completed=done)

        yield tick

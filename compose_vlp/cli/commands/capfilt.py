"""`compose-vlp capfilt`: pictures of the web with texts that fit them, by a captioner and a filter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.table import Table

from compose_vlp.cli.commands.evaluate import ticking
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Device, Json, Plugins, Run, Seed, load_run
from compose_vlp.data.detect_source import is_data, settings_of
from compose_vlp.errors import UserError
from compose_vlp.readable import percent

if TYPE_CHECKING:
    from compose_vlp.capfilt.work import Summary
    from compose_vlp.data.source import Source
    from compose_vlp.run import Run as LoadedRun

EXAMPLES = (
    ("BLIP's way, by one run", "compose-vlp capfilt runs/blip-1 --data web.jsonl --out clean"),
    (
        "a captioner and a filter, fine-tuned apart",
        "compose-vlp capfilt runs/captioner --filter runs/filter --data 'web/*.tar' --out clean --form webdataset",
    ),
    ("the second half of the work", "compose-vlp capfilt runs/blip-1 --data web.jsonl --out clean --shard 1/2"),
    (
        "only the web's texts, by cosine",
        "compose-vlp capfilt runs/coca-1 --texts web --threshold 0.3 --data web.jsonl --out clean",
    ),
)


def command(
    run: Run,
    data: Annotated[
        str,
        typer.Option("--data", metavar="SOURCE", help="A file or folder of pictures, or an entry of the run's `data`."),
    ],
    path: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the data set goes; what is there is gone on with.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="CHANGE", help="Changes of the run's data: '+data.web={...}'.", show_default=False),
    ] = None,
    filter_run: Annotated[
        str | None,
        typer.Option("--filter", metavar="RUN", help="The run that judges; the captioner itself if left out."),
    ] = None,
    by: Annotated[
        Literal["match", "similarity"] | None,
        typer.Option("--by", help="What judges; the output `match` if the run has one, else its embeddings."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Keep texts from this score on; of `match` 0.5 if left out."),
    ] = None,
    texts: Annotated[
        Literal["both", "web", "synthetic"],
        typer.Option("--texts", help="Whose texts are judged; for `web` the run writes none."),
    ] = "both",
    captions: Annotated[int, typer.Option("--captions", min=1, help="Synthetic texts a picture.")] = 1,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="NAME", help="Which output writes; the one that does if left out."),
    ] = None,
    top_p: Annotated[
        float, typer.Option("--top-p", min=0, max=1, help="Draw words from the likeliest of so much probability.")
    ] = 0.9,
    max_length: Annotated[int | None, typer.Option("--max-length", min=2, help="Tokens of a text at most.")] = None,
    min_length: Annotated[int | None, typer.Option("--min-length", min=0, help="Tokens of a text at least.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Take only so many records, the first ones.")
    ] = None,
    form: Annotated[
        Literal["jsonl", "webdataset"],
        typer.Option("--form", help="A file of lines beside its pictures, or tar shards."),
    ] = "jsonl",
    images: Annotated[
        str | None, typer.Option("--images", metavar="FOLDER", help="Where a file's pictures are, if not beside it.")
    ] = None,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="The part that this process does, of several.")
    ] = "0/1",
    seed: Seed = 0,
    device: Device = "auto",
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Caption pictures of the web, and keep the texts that fit.

    A captioner writes a text for each picture, a filter judges it and the web's. The result is a data set with, for
    each text, whence it is and its score. A run that was stopped goes on with the
    same command, and several processes may share the work.
    """
    from compose_vlp.capfilt.captioner import Captioner
    from compose_vlp.capfilt.judges import judge_of
    from compose_vlp.capfilt.settings import Settings, Shard
    from compose_vlp.capfilt.work import capfilt
    from compose_vlp.evaluation.batches import First

    part = Shard.read(shard)
    trained = load_run(run, plugins, device, changes)
    other = load_run(filter_run, plugins, device) if filter_run is not None else trained
    captioner = None
    if texts != "web":
        lengths = {"max_length": max_length, "min_length": min_length}
        search = {"top_p": top_p} | {name: value for name, value in lengths.items() if value is not None}
        captioner = Captioner.of(trained.asker, _name(trained), output=output, search=search)
    judge = judge_of(other.asker, _name(other), by=by, threshold=threshold)
    source, described = _source(trained, data, images)
    if limit is not None:
        source = First(source, limit)
    settings = Settings(texts, captions, seed, form)
    with ticking(len(source) // part.count) as tick:
        summary = capfilt(
            source, judge, captioner, path, settings, described=described, shard=part, tick=lambda n: tick("capfilt", n)
        )
    if as_json:
        print_json({"out": str(path), **summary.as_json()})
        return
    _print(summary, path)


def _name(run: LoadedRun) -> str:
    """Name the run and the step of its weights, as the data does."""
    from compose_vlp.runtime.state import checkpoint

    newest = checkpoint.latest(run.folder.checkpoints)
    return run.folder.path.resolve().name + (f"/{newest.name}" if newest is not None else "")


def _source(run: LoadedRun, data: str, images: str | None) -> tuple[Source, dict[str, Any]]:
    """Open the source that is meant; return it and its settings."""
    from compose_vlp.blueprint.show import values
    from compose_vlp.data.source import open_source
    from compose_vlp.runtime.sources import declared_source

    if data in run.blueprint.document.data.names:
        if images is not None:
            raise UserError("`--images` belongs to a file of captions; an entry of `data` says it itself")
        return declared_source(run.blueprint, data), {"entry": values(run.blueprint.document)["data"][data]}
    if is_data(data):
        settings = settings_of(data, images)
        return open_source(settings), settings
    return declared_source(run.blueprint, data), {}


def _print(summary: Summary, path: Path) -> None:
    table = Table("texts", "judged", "kept", "", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for name, counts in (("web", summary.web), ("synthetic", summary.synthetic)):
        table.add_row(name, f"{counts.judged:,}", f"{counts.kept:,}", percent(counts.share) if counts.judged else "")
    out().print(table)
    broken = f", {summary.broken:,} broken" if summary.broken else ""
    out().print(f"{summary.pictures:,} of {summary.records:,} pictures have a text that fits{broken}.")
    if summary.data is None:
        out().print(f"Other parts are not done yet: their processes put the data set into {path} together.")
        return
    use = "webdataset" if summary.data.suffix == ".tar" else "jsonl"
    out().print(f"In a blueprint: data: {{clean: {{use: {use}, path: '{summary.data}'}}}}", soft_wrap=True)

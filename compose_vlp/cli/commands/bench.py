"""`compose-vlp bench`: how fast a step of a blueprint is on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import (
    Device,
    Json,
    Plugins,
    Verbose,
    Words,
    load,
    named,
    print_note,
    print_notes,
    sort_words,
)
from compose_vlp.errors import UserError

if TYPE_CHECKING:
    import torch

    from compose_vlp.bench.curve import Curve

EXAMPLES = (
    ("a small ALBEF, on this machine", "compose-vlp bench tiny/albef"),
    ("fewer rows and steps, of another stage", "compose-vlp bench tiny/vlmo --stage pairs --batch 8 --rounds 3"),
    (
        "how it grows with the rows of a step, as a picture",
        "compose-vlp bench tiny/albef --vary 'stages.pretrain.batch=8|16|32' --picture batch.svg",
    ),
    ("with the length of texts", "compose-vlp bench tiny/coca --vary 'inputs.caption.max_length=8|16|24' --batch 8"),
    ("in one process and in two", "compose-vlp bench tiny/albef --processes '1|2' --batch 8 --device cpu"),
)


def command(
    words: Words,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="Time this stage; the first if left out.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Rows of a step; the stage's own if left out.")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Steps of each program that are timed, after one that warms up.")
    ] = 5,
    vary: Annotated[
        str | None,
        typer.Option("--vary", metavar="PATH=A|B", help="Repeat it with each of these values of a path."),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(
            "--processes", metavar="1|2", help="Repeat it in so many processes, each with as many rows, on the CPU."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.svg", help="Also draw what `--vary` or `--processes` gave."),
    ] = None,
    plugins: Plugins = None,
    device: Device = "auto",
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Time whole optimiser steps here, with and without passes.

    Forward, backward, clipping, AdamW and teachers, on rows that are made up, texts as long as their frame. The
    compiled program and the one without passes take turns, so that both meet the machine in the same moods. Work is
    counted from shapes, and set beside what a large matrix product reaches here.
    """
    from compose_vlp.allocator import keep_memory
    from compose_vlp.bench.steps import bench
    from compose_vlp.runtime.device import choose_device

    where = choose_device(named(device))
    if where.type == "cpu":
        keep_memory()
    if vary is not None or processes is not None:
        _judge(vary, processes, batch, picture)
        how = _How(tuple(words), stage, batch, rounds, where, tuple(plugins or ()), verbose)
        curve = _in_processes(how, processes) if processes is not None else _along(how, str(vary))
        _tell(curve, picture, as_json=as_json)
        return
    if picture is not None:
        raise UserError("`--picture` draws a curve, and nothing is varied", hints=(f"--vary '{EXAMPLE}'",))
    blueprint = load(words, plugins)
    checked = blueprint.check()
    print_notes((*blueprint.notes, *checked.notes), verbose=verbose)
    measured = bench(checked, stage=stage, batch=batch, rounds=rounds, device=where)
    if as_json:
        print_json(measured.as_json())
    else:
        out().print(measured.text())


EXAMPLE = "stages.pretrain.batch=8|16|32"


def _judge(vary: str | None, processes: str | None, batch: int | None, picture: Path | None) -> None:
    """Refuse options that do not go together, and a picture that nobody could write, before minutes are spent."""
    if vary is not None and processes is not None:
        raise UserError("`--vary` and `--processes` are both given, and one thing is varied at a time")
    path = (vary or "").partition("=")[0]
    if batch is not None and path.rpartition(".")[2] == "batch":
        raise UserError(
            f"`--batch {batch}` holds for all steps, and `{path}` is varied", hints=("leave `--batch` out",)
        )
    if picture is not None and picture.suffix != ".svg":
        raise UserError(f"`--picture {picture}`: a picture is an SVG", hints=(f"--picture {picture.stem}.svg",))
    if picture is not None and not picture.parent.is_dir():
        raise UserError(f"`--picture {picture}`: there is no folder {picture.parent}")


@dataclass(frozen=True)
class _How:
    """What the points of a curve have in common."""

    words: tuple[str, ...]
    stage: str | None
    batch: int | None
    rounds: int
    device: torch.device
    plugins: tuple[Path, ...]
    verbose: bool


def _along(how: _How, vary: str) -> Curve:
    from compose_vlp.bench.curve import bench_values
    from compose_vlp.sweep.values import blueprints_of_values

    sort_words(how.words)  # refuses a line that names no blueprint
    path, loaded = blueprints_of_values(how.words, vary, how.plugins)
    checked = {value: blueprint.check() for value, blueprint in loaded.items()}
    notes = [note for value, blueprint in loaded.items() for note in (*blueprint.notes, *checked[value].notes)]
    print_notes(dict.fromkeys(notes), verbose=how.verbose)
    return bench_values(
        path, checked, stage=how.stage, batch=how.batch, rounds=how.rounds, device=how.device, tick=_tick
    )


def _in_processes(how: _How, processes: str) -> Curve:
    from compose_vlp.bench.processes import Request, bench_processes, threads_of_each

    numbers = _numbers(processes)
    if how.device.type != "cpu":
        raise UserError("`--processes` are measured on the CPU", hints=("--device cpu",))
    blueprint = load(how.words, how.plugins)
    print_notes((*blueprint.notes, *blueprint.check().notes), verbose=how.verbose)
    names = sort_words(how.words)
    request = Request(
        names.blueprints, names.overrides, how.plugins, how.stage, how.batch, how.rounds, threads_of_each(numbers)
    )
    return bench_processes(request, numbers, _tick)


def _numbers(processes: str) -> list[int]:
    texts = [text.strip() for text in processes.split("|")]
    numbers = [int(text) for text in texts if text.isdecimal()]
    if len(numbers) < len(texts) or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UserError(
            f"`--processes {processes}`: numbers of processes are whole, from 1, and each is there once",
            hints=("--processes '1|2|4'",),
        )
    return numbers


def _tick(what: str) -> None:
    print_note(f"timing {what}")


def _tell(curve: Curve, picture: Path | None, *, as_json: bool) -> None:
    from compose_vlp.files import write_atomic

    if as_json:
        print_json(curve.as_json())
    else:
        out().print(curve.text())
    if picture is not None:
        try:
            write_atomic(picture, curve.picture())
        except OSError as error:
            raise UserError(f"cannot write {picture}: {error.strerror}") from error
        if not as_json:
            out().print(f"The picture: {picture}", soft_wrap=True)

"""`compose-vlp train`: from a blueprint to a trained model in a run folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from compose_vlp.blueprint.sections import EngineName
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import (
    Device,
    Json,
    NoTrack,
    Out,
    Plugins,
    Seed,
    Verbose,
    in_brief,
    load,
    named,
    print_note,
    words_argument,
)
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.runtime.limits import MOST_WORKERS

if TYPE_CHECKING:
    from compose_vlp.plugins import Plugin
    from compose_vlp.runtime.state.run_folder import RunFolder

EXAMPLES = (
    ("a small CoCa on drawn pictures, in minutes", "compose-vlp train tiny/coca"),
    ("your own captions", "compose-vlp train coca_base data.pairs.path=captions.jsonl"),
    ("an ablation: no contrastive loss", "compose-vlp train tiny/coca ~losses.contrastive"),
    ("go on with a run that was stopped", "compose-vlp train --resume runs/coca_tiny-1"),
)


def _engine(name: str | None) -> EngineName | None:
    """Read the name of an engine.

    Raises:
        UserError: there is none of that name.
    """
    known = get_args(EngineName)
    if name is not None and name not in known:
        hints = did_you_mean(name, known) or [f"there are: {', '.join(known)}"]
        raise UserError(f"`--distribute` cannot be `{name}`", hints=hints)
    return cast("EngineName | None", name)


KEPT = ("log_every", "checkpoint_every", "keep", "without", "distribute", "patience")
"""Options that a run keeps where it goes on and the command does not say them; the others are the machine's."""


def _as_it_began(context: typer.Context, folder: RunFolder) -> dict[str, Any]:
    """Give the options that a run began with, but for those that the command says.

    Raises:
        UserError: the command says another seed than the run's, which a run cannot change.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    in_command = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
    if "seed" in in_command and context.params["seed"] != folder.info.seed:
        raise UserError(
            f"{folder.path} goes on with its own seed, {folder.info.seed}: `--seed {context.params['seed']}` cannot be",
            hints=["without `--seed`, or as a new run"],
        )
    began = folder.info.extra.get("options", {})
    return {name: began[name] for name in KEPT if name in began and name not in in_command}


def command(
    context: typer.Context,
    words: Annotated[list[str] | None, words_argument()] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with this run from its last checkpoint.")
    ] = None,
    path: Out = None,
    seed: Seed = 0,
    device: Device = "auto",
    plugins: Plugins = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            max=MOST_WORKERS,
            show_default="auto",
            help="Processes that read data ahead; 0 reads in between, auto is 2 where pictures are decoded.",
        ),
    ] = None,
    log_every: Annotated[int, typer.Option("--log-every", min=1, help="Steps between two logged losses.")] = 10,
    checkpoint_every: Annotated[
        int,
        typer.Option("--checkpoint-every", min=1, help="Steps between two checkpoints, where a stage does not say."),
    ] = 500,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Checkpoints that are kept, the newest.")] = 2,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="PASS", help="Leave out a compiler's pass; may be repeated."),
    ] = None,
    distribute: Annotated[
        str | None,
        typer.Option(
            "--distribute",
            metavar="ENGINE",
            help="How several processes share the work, whatever stages say: `ddp`, `fsdp` or `hybrid`.",
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            min=0,
            metavar="MINUTES",
            help="End a run of several processes after one of them hung for so long; 0 waits for ever.",
        ),
    ] = 30.0,
    changed_data: Annotated[
        bool, typer.Option("--changed-data", help="Go on with a run whose data is other than it was.")
    ] = False,
    no_track: NoTrack = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Train a blueprint, or go on with a run.

    Runs the blueprint's stages in their order, with a bar of progress, and leaves checkpoints, tokenizers, the
    resolved blueprint and the generated programs in a run folder. Everything is logged to MLflow as it happens;
    training never waits for it. Ctrl-C stops after the running step, which is saved; `--resume` goes on, and comes out
    where it would have without the stop. Under `torchrun`, all processes train one model; those that it starts again
    (`--max-restarts`) go on from the last checkpoint. A blueprint without stages
    keeps the weights that its `start` brings, to be measured.
    """
    from compose_vlp.allocator import keep_memory
    from compose_vlp.cli.progress import TrainProgress
    from compose_vlp.runtime.device import choose_device
    from compose_vlp.runtime.processes import leave_processes
    from compose_vlp.runtime.restarts import run_before_restart
    from compose_vlp.runtime.state.carried import carried
    from compose_vlp.runtime.state.find_run import find_run
    from compose_vlp.runtime.training.log import scores_text
    from compose_vlp.runtime.training.trainer import TrainOptions

    if resume is not None and (words or path):
        raise UserError("`--resume RUN` goes on with the run's own blueprint, in its own folder")
    began = resume if resume is not None else run_before_restart(path)
    folder = find_run(began) if began is not None else None
    if folder is not None:
        if not (folder.path / "blueprint.yaml").is_file():
            raise UserError(
                f"{folder.path} has no blueprint.yaml: nothing had begun there",
                hints=[f"start it again: {shlex.join(folder.info.command)}"],
            )
        words, path, seed = [str(folder.path / "blueprint.yaml")], folder.path, folder.info.seed
        kept = _as_it_began(context, folder)
        used: Sequence[Path | Plugin] = carried(folder.path, plugins or (), print_note)
    else:
        used, kept = plugins or (), {}
    options = TrainOptions(
        seed=seed,
        device=named(device),
        workers=workers,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        keep=keep,
        without=tuple(without or ()),
        changed_data=changed_data,
        distribute=_engine(distribute),
        patience=patience,
    )
    options = replace(options, **kept | ({"without": tuple(kept["without"])} if "without" in kept else {}))
    blueprint = load(words or (), used)
    if choose_device(options.device).type == "cpu":
        keep_memory()
    with TrainProgress() as progress:
        for note in blueprint.notes:
            progress.note(f"note: {in_brief(note, verbose=verbose)}")
        run = blueprint.train(
            out=path,
            options=options,
            resume=folder is not None,
            track=not no_track,
            listener=progress,
            command=sys.argv,
        )
    if not leave_processes():
        return
    if as_json:
        print_json({"run": str(run.folder.path), "status": run.folder.info.status})
        return
    out().print(f"Trained: {run.folder.path}", soft_wrap=True)
    for data, scores in run.folder.info.extra.get("scores", {}).items():
        numbers = {name: value for name, value in scores.items() if name != "step"}
        lines = [scores_text(data, scores["step"], numbers), *run.folder.info.extra.get("samples", {}).get(data, ())]
        out().print("\n  ".join(lines), soft_wrap=True)
    out().print(f"Measure it: compose-vlp evaluate {run.folder.path}", soft_wrap=True)
    if not no_track:
        from compose_vlp.tracking import how_to_look

        out().print(f"Its curves: {how_to_look(run.folder.path)}", soft_wrap=True)

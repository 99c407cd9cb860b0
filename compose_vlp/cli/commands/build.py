"""`compose-vlp build`: everything that can be known of a model before it has weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.options import Json, NoTrack, Out, Plugins, Verbose, Words, load, named, print_notes
from compose_vlp.errors import UserError

if TYPE_CHECKING:
    from compose_vlp.compiler.explain import Effect

EXAMPLES = (
    ("the 2.1B CoCa, in seconds and without weights", "compose-vlp build coca"),
    ("only look, leave nothing in MLflow", "compose-vlp build coca --no-track"),
    ("the program that trains it", "compose-vlp build coca --code"),
    ("what each pass is worth", "compose-vlp build coca --explain"),
    ("a pass left out", "compose-vlp build coca --without rows"),
    ("the memory of one of 64 cards", "compose-vlp build coca --world 64 --device h100 --no-track"),
    ("real weights, and one real step of a tiny batch", "compose-vlp build tiny/coca --materialise"),
)


def command(
    words: Words,
    code: Annotated[bool, typer.Option("--code", help="Print the generated programs instead of the report.")] = False,
    materialise: Annotated[
        bool, typer.Option("--materialise", help="Also make the weights, and run one step forward and backward.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="Measure this stage; the first if left out.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="PASS", help="Leave out a pass; may be repeated.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Rows of the step that is measured; 8 if left out, with --world the stage's own.",
            show_default=False,
        ),
    ] = None,
    world: Annotated[
        int | None,
        typer.Option("--world", min=1, help="Also say what each of so many processes holds, and whether it fits."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show what each pass changed: calls, work, activations.")
    ] = False,
    timed: Annotated[
        bool, typer.Option("--time", help="With --explain: also time a step before and after each pass, here.")
    ] = False,
    plugins: Plugins = None,
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="DEVICE", help="Where --materialise runs; with --world a card: a100, h100, ..."
        ),
    ] = "auto",
    path: Out = None,
    no_track: NoTrack = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Compile a blueprint: sizes, shapes, FLOPs, code, picture.

    Prints parameters beside the paper's figures, the shape of every value, the work and memory of a training step, and
    what each pass did; with `--world` also what each process holds. Writes the resolved blueprint, the plan, the
    programs and a picture of the graph into a folder, and logs them to MLflow. No weight is made, unless
    `--materialise` asks for them.
    """
    _read_all(device, read=bool(world or materialise or timed), lone_time=timed and not explain)
    blueprint = load(words, plugins)
    print_notes((*blueprint.notes, *blueprint.check().notes), verbose=verbose)
    card = None if device == "auto" else device
    plans = blueprint.memory(stage, world=world, batch=batch, card=card, without=without or ()) if world else []
    built = blueprint.build(out=path, stage=stage, without=without or (), batch=batch or 8, track=not no_track)
    tried = None
    if materialise:
        from compose_vlp.compiler.materialise import materialise as try_step
        from compose_vlp.runtime.device import choose_device
        from compose_vlp.runtime.stage import choose_of_stage

        checked = blueprint.check()
        if not checked.stages:
            hint = ("`stages: {train: {...}}`",)
            raise UserError("the blueprint has no stages, so there is no step to try", hints=hint)
        name = stage or next(iter(checked.stages))
        own = checked.of_stage(name)
        tried = try_step(checked, name, choose_device(named(device)), choose=lambda m: choose_of_stage(m, own, name))
    effects: tuple[Effect, ...] = ()
    if explain:
        from compose_vlp.building import explain as explain_passes
        from compose_vlp.runtime.device import choose_device

        here = choose_device(named(device)) if timed else None
        effects = explain_passes(blueprint.check(), stage=stage, without=without or (), batch=batch or 8, device=here)
    if as_json:
        figures = [
            {"label": f.label, "built": f.built, "printed": f.printed, "agrees": f.agrees} for f in built.figures
        ]
        files = {name: str(file) for name, file in built.files.items()}
        extra: dict[str, Any] = {"materialised": tried.as_json()} if tried else {}
        extra |= {"explained": [asdict(effect) for effect in effects]} if explain else {}
        extra |= {"processes": [plan.as_json() for plan in plans]} if plans else {}
        print_json({**built.report.as_json(), "figures": figures, "folder": str(built.folder), "files": files, **extra})
    elif code:
        print_code(built.sources)
    else:
        from compose_vlp.compiler.report_text import effects_text, report_text

        checked = blueprint.check()
        kinds = {name: component.kind.name for name, component in checked.components.items()}
        kinds |= {f"adapters.{name}": adapter.kind.name for name, adapter in checked.adapters.items()}
        out().print(report_text(built.report.as_json(), kinds, built.figures))
        if effects:
            out().print(effects_text(effects))
        if plans:
            from compose_vlp.compiler.memory_plan import plans_text

            out().print(plans_text(plans))
        if tried:
            out().print(tried.text())
        out().print(f"Written to {built.folder}: {', '.join(built.files)}", soft_wrap=True)
        out().print(f"The graph: {built.files['graph.html']}", soft_wrap=True)
    if built.message:
        err().print(built.message, soft_wrap=True)


def print_code(sources: Mapping[str, str]) -> None:
    """Print the programs, in colour on a terminal, and as one file elsewhere."""
    console = out()
    if not console.is_terminal:
        print("\n\n".join(f"# {name}\n{text.strip()}\n" for name, text in sources.items()))
        return
    from rich.syntax import Syntax

    for text in sources.values():
        console.print(Syntax(text, "python", background_color="default", word_wrap=True))


def _read_all(device: str, *, read: bool, lone_time: bool) -> None:
    """See that every option given is one that something reads.

    Raises:
        UserError: a device without anything that runs or is planned there, `--time` without what it times.
    """
    if device != "auto" and not read:
        hint = f"`--world 1 --device {device}` asks whether a card holds it; `--materialise` and `--time` run there"
        raise UserError("nothing reads `--device` here", hints=[hint])
    if lone_time:
        raise UserError("`--time` times what `--explain` shows", hints=["--explain --time"])

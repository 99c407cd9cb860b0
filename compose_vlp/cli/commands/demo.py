"""`compose-vlp demo`: build the largest CoCa, then train a small one and show what it learnt."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from compose_vlp.cli.commands.build import command as build
from compose_vlp.cli.commands.evaluate import ticking
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Device, Json, NoTrack, Out, Seed, named

EXAMPLES = (
    ("four to six minutes on two processor cores", "compose-vlp demo"),
    ("only train, leave nothing in MLflow", "compose-vlp demo --no-build --no-track"),
)


def command(
    path: Out = None,
    seed: Seed = 0,
    device: Device = "auto",
    no_build: Annotated[bool, typer.Option("--no-build", help="Do not build the 2.1B CoCa first.")] = False,
    no_track: NoTrack = False,
    as_json: Json = False,
) -> None:
    """Train a small model in minutes and show what it learnt.

    Builds the 2.1B CoCa on the meta device, then trains a CoCa of two million weights on drawn pictures, finds 1,000
    unseen pictures by their texts, captions some, and writes a page with pictures, captions and curves.
    """
    from compose_vlp.cli.progress import TrainProgress
    from compose_vlp.demo import CAPTIONS, PICTURES, run_demo
    from compose_vlp.readable import duration, percent
    from compose_vlp.runtime.training.trainer import TrainOptions
    from compose_vlp.tracking import how_to_look

    if not no_build and not as_json:
        out().print("compose-vlp build coca", style="bold")
        build(["coca"], no_track=no_track)
        out().print("\ncompose-vlp train tiny/coca", style="bold")
    with TrainProgress() as progress, ticking(max(PICTURES, CAPTIONS)) as tick:
        options = TrainOptions(seed=seed, device=named(device))
        demo = run_demo(progress, out=path, options=options, track=not no_track, tick=tick)
    if as_json:
        scores = {"before": demo.before.flat(), "after": demo.after.flat()}
        print_json({"run": str(demo.run.folder.path), "page": str(demo.page), "seconds": demo.seconds, **scores})
        return
    table = Table("", "before", "after", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    before, after = demo.before.flat(), demo.after.flat()
    for key, label in (
        ("image_to_text_recall_at_1", f"the right text of {PICTURES:,} found for a picture"),
        ("text_to_image_recall_at_1", f"the right picture of {PICTURES:,} found for a text"),
        ("objects_named", "objects named with colour and shape"),
        ("distinct_captions", "captions that differ from one another"),
    ):
        table.add_row(label, percent(before[key]), percent(after[key]))
    out().print(table)
    for caption, true in list(zip(demo.after.captions.captions, demo.after.captions.references, strict=True))[:3]:
        out().print(f"  said: {caption}\n  true: {true[0]}\n", style="dim", highlight=False)
    out().print(f"Done in {duration(demo.seconds)}. Look at {demo.page}", soft_wrap=True)
    out().print(f"Ask it: compose-vlp generate {demo.run.folder.path} PICTURE.png", soft_wrap=True)
    if not no_track:
        out().print(f"Its curves in MLflow: {how_to_look(demo.run.folder.path)}", soft_wrap=True)

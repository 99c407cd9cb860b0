"""`compose-vlp explain`: where in a picture a trained model sees what a text says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose_vlp.cli.console import err, out, print_json
from compose_vlp.cli.options import Device, Json, Plugins, Run, load_run
from compose_vlp.errors import UserError

if TYPE_CHECKING:
    from compose_vlp.evaluation.explaining import Explained

EXAMPLES = (
    ("where the words are", "compose-vlp explain runs/albef-1 --image cat.jpg --text 'a cat on a chair'"),
    (
        "through another layer, as a page",
        "compose-vlp explain runs/albef-1 --image cat.jpg --text 'a cat' --layer 3 --out cat.html",
    ),
)
ENDS = (".png", ".html")


def command(
    run: Run,
    image: Annotated[Path, typer.Option("--image", metavar="PICTURE", help="The picture's file.", show_default=False)],
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="What is looked for in it.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="NAME", help="Which output of the form `relevance`; the only one if left out."
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Layer that looks, from 0; the output's if left out.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="A .png or .html; in the run's reports if left out.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show where in a picture a model sees what a text says.

    Grad-CAM of cross-attention, for the whole text and for each of its words, laid over the picture. The score that is
    explained is the blueprint's output of the form `relevance`; without one, the first score of its graph that a text
    reaches after looking at the picture.
    """
    from compose_vlp.evaluation.explaining import explain

    if path is not None and path.suffix.lower() not in ENDS:
        raise UserError(f"{path} is neither a .png nor a .html", hints=("as in --out cat.png",))
    if not image.is_file():
        raise UserError(f"no picture {str(image)!r}")
    trained = load_run(run, plugins, device)
    explained = explain(trained.asker, image, text, output=output, layer=layer)
    file = path or trained.folder.reports / f"explain_{image.stem}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    explained.save(file)
    if as_json:
        print_json({"run": str(trained.folder.path), "file": str(file), **explained.as_json()})
        return
    _print(explained, file)


def _print(explained: Explained, file: Path) -> None:
    how = explained.settings
    err().print(f"note: `{how.relevance}`, through layer {how.layer} of `{how.through}`", style="dim")
    x, y = explained.peak
    numbers: dict[str, Any] = {
        "score": f"{explained.score:.3f}",
        "highest at": f"{x:.0%} from the left, {y:.0%} from above",
    }
    for key, value in numbers.items():
        out().print(f"{key}: {value}")
    out().print(f"Map: {file}", soft_wrap=True)

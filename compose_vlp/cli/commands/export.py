"""`compose-vlp export`: a trained model for others: its weights as one file, a folder of another library, or ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose_vlp.cli import complete
from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Run, load_run
from compose_vlp.errors import UserError
from compose_vlp.interop.formats import ALL, FOLDERS, ONNX, PLAIN

if TYPE_CHECKING:
    from compose_vlp.run import Run as LoadedRun

EXAMPLES = (
    ("weights for another blueprint's `start`, adapters merged", "compose-vlp export runs/albef-1 albef.safetensors"),
    ("BEiT-3's weights under its authors' names", "compose-vlp export runs/beit3-1 beit3.safetensors --to beit3"),
    ("a folder for transformers' BLIP, or its CLIP", "compose-vlp export runs/blip-1 release --to transformers"),
    ("its outputs as ONNX files, with their tokenizers", "compose-vlp export runs/albef-1 release --to onnx --card"),
    ("with a card that says what they are", "compose-vlp export runs/albef-1 release/albef.safetensors --card"),
    ("the adapters beside the maps that they adapt", "compose-vlp export runs/albef-1 albef.safetensors --apart"),
)


def command(
    run: Run,
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="The .safetensors file to write; else the folder.", show_default=False),
    ],
    apart: Annotated[
        bool, typer.Option("--apart", help="Leave adapters beside the maps that they adapt, as the run has them.")
    ] = False,
    form: Annotated[
        str,
        typer.Option("--to", "--as", help=f"The format: {', '.join(ALL)}.", autocompletion=complete.formats),
    ] = PLAIN,
    card: Annotated[
        bool, typer.Option("--card", help="Also write README.md beside it: what the weights are, and their scores.")
    ] = False,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a model as one file, or as a folder of another library.

    `safetensors`: the names by which `start` fills a blueprint (`start: [{from: albef.safetensors}]`). `beit3`,
    `open_clip_coca`, `vlmo`: one file of the authors' names. `transformers`, `open_clip`: a folder that the library
    loads by itself, settings of pictures and the tokenizer included, of a model that has the shape of one of its
    classes; of another it is said in what it departs. `onnx`: a file for each output that one call of the model gives.

    Adapters are merged: LoRA's factors are part of the weights that they adapt. A card tells neither the run's command
    line nor paths of its data; its licence is left to you.
    """
    from compose_vlp.interop.formats import check_form
    from compose_vlp.report.card import refuse_in_the_way, write_card

    check_form(form)
    if form in FOLDERS and apart:
        raise UserError(f"adapters are merged in {form!r}", hints=["leave `--apart` out"])
    folder = path if form in FOLDERS else path.parent
    if card:
        refuse_in_the_way(folder)
    loaded = load_run(run, plugins, "cpu")
    document, lines, facts = _written(loaded, path, form, apart)
    readme = write_card(loaded, folder, facts) if card else None
    if as_json:
        print_json({**document, **({"card": str(readme)} if readme else {})})
        return
    for line in lines:
        out().print(line, soft_wrap=True)
    if readme is not None:
        out().print(f"Card: {readme}; say in it under which licence the weights may be used", soft_wrap=True)


def _written(loaded: LoadedRun, path: Path, form: str, apart: bool) -> tuple[Any, list[str], list[tuple[str, str]]]:
    """Write in the format, and give what came of it: for `--json`, for the terminal and for a card."""
    from compose_vlp.interop.export import export
    from compose_vlp.interop.libraries.export import export_folder
    from compose_vlp.interop.onnx_files import export_onnx

    if form not in FOLDERS:
        written = export(loaded.asker.model, path, apart=apart, form=form)
        return written.as_json(), written.lines(), written.facts(form)
    filled = export_onnx(loaded.asker, path) if form == ONNX else export_folder(loaded.asker, path, form)
    return filled.as_json(), filled.lines(), filled.facts()

"""`compose-vlp export`: a trained model for others: its weights as one file, or its outputs as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Run, load_run
from compose_vlp.errors import UserError

EXAMPLES = (
    ("weights for another blueprint's `start`, adapters merged", "compose-vlp export runs/albef-1 albef.safetensors"),
    ("BEiT-3's weights under its authors' names", "compose-vlp export runs/beit3-1 beit3.safetensors --as beit3"),
    ("its outputs as ONNX files, with their tokenizers", "compose-vlp export runs/albef-1 release --as onnx --card"),
    ("with a card that says what they are", "compose-vlp export runs/albef-1 release/albef.safetensors --card"),
    ("the adapters beside the maps that they adapt", "compose-vlp export runs/albef-1 albef.safetensors --apart"),
)


def command(
    run: Run,
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="The .safetensors file to write; of ONNX the folder.", show_default=False),
    ],
    apart: Annotated[
        bool, typer.Option("--apart", help="Leave adapters beside the maps that they adapt, as the run has them.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--as", help="Names of another implementation: beit3, open_clip_coca, vlmo; or onnx.", show_default=False
        ),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Also write README.md beside it: what the weights are, and their scores.")
    ] = False,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a trained model's weights as one file, adapters merged.

    The names are those by which `start` fills a blueprint: `start: [{from: albef.safetensors}]`. Merged, LoRA's factors
    are part of the weights that they adapt, and the file fits the blueprint without `adapters`. In ONNX there is a file
    for each output that one call of the model gives: pictures and token ids go in, embeddings, scores and logits come
    out. A card tells neither the run's command line nor paths of its data; its licence is left to you.
    """
    from compose_vlp.interop.export import FOLDERS, export
    from compose_vlp.report.card import refuse_in_the_way, write_card

    folder = path if form in FOLDERS else path.parent
    if card:
        refuse_in_the_way(folder)
    loaded = load_run(run, plugins, "cpu")
    if form == "onnx":
        from compose_vlp.interop.onnx_files import export_onnx

        if apart:
            raise UserError("adapters are part of what an ONNX file computes", hints=["leave `--apart` out"])
        in_onnx = export_onnx(loaded.asker, path)
        document, lines, facts = in_onnx.as_json(), in_onnx.lines(), in_onnx.facts()
    else:
        written = export(loaded.asker.model, path, apart=apart, form=form)
        document, lines, facts = written.as_json(), written.lines(), written.facts(form)
    readme = write_card(loaded, folder, facts) if card else None
    if as_json:
        print_json({**document, **({"card": str(readme)} if readme else {})})
        return
    for line in lines:
        out().print(line, soft_wrap=True)
    if readme is not None:
        out().print(f"Card: {readme}; say in it under which licence the weights may be used", soft_wrap=True)

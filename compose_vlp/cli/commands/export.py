"""`compose-vlp export`: a trained model's weights as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli.console import out, print_json
from compose_vlp.cli.options import Json, Plugins, Run, load_run
from compose_vlp.readable import storage

EXAMPLES = (
    ("weights for another blueprint's `start`, adapters merged", "compose-vlp export runs/albef-1 albef.safetensors"),
    ("BEiT-3's weights under its authors' names", "compose-vlp export runs/beit3-1 beit3.safetensors --as beit3"),
    ("with a card that says what they are", "compose-vlp export runs/albef-1 release/albef.safetensors --card"),
    ("the adapters beside the maps that they adapt", "compose-vlp export runs/albef-1 albef.safetensors --apart"),
)


def command(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .safetensors file to write.", show_default=False)],
    apart: Annotated[
        bool, typer.Option("--apart", help="Leave adapters beside the maps that they adapt, as the run has them.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option("--as", help="Names of another implementation: beit3, open_clip_coca, vlmo.", show_default=False),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Also write README.md beside it: what the weights are, and their scores.")
    ] = False,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a trained model's weights as one file, adapters merged.

    The names are those by which `start` fills a blueprint: `start: [{from: albef.safetensors}]`. Merged, LoRA's factors
    are part of the weights that they adapt, and the file fits the blueprint without `adapters`. A card tells neither
    the run's command line nor paths of its data; its licence is left to you.
    """
    from compose_vlp.interop.export import export
    from compose_vlp.report.card import refuse_in_the_way, write_card

    if card:
        refuse_in_the_way(file)
    loaded = load_run(run, plugins, "cpu")
    written = export(loaded.asker.model, file, apart=apart, form=form)
    readme = write_card(loaded, written, form) if card else None
    if as_json:
        print_json({**written.as_json(), **({"card": str(readme)} if readme else {})})
        return
    maps = "; ".join(f"{name} merged into {count} linear maps" for name, count in written.merged.items())
    summary = f"{written.file}: {written.tensors} tensors, {storage(written.bytes)}" + (f"; {maps}" if maps else "")
    out().print(summary, soft_wrap=True)
    if readme is not None:
        out().print(f"Card: {readme}; say in it under which licence the weights may be used", soft_wrap=True)

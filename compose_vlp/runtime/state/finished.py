"""What of a finished run its model is loaded from elsewhere: the run folder without its logs and moments."""

from __future__ import annotations

import base64
from io import BytesIO

from compose_vlp.errors import UserError
from compose_vlp.graph.asked import fields_asked, first_asked, type_of_field
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.carried import PLUGINS
from compose_vlp.runtime.state.manifest import read_manifest
from compose_vlp.runtime.state.new_folder import RUN_FILE
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.tables import FOLDER
from compose_vlp.tracking import Model, versions

NAME = "model"
"""The model's folder in MLflow: `runs:/RUN_ID/model`."""
LOADER = "compose_vlp.serving"
_TYPES = {"image": "string", "text": "string", "number": "double", "id": "string", "label": "string"}


def finished_model(blueprint: CheckedBlueprint, folder: RunFolder) -> Model | None:
    """Describe the trained model of a run, as its tracker takes it; None of a blueprint without outputs.

    Raises:
        UserError: the run has no checkpoint.
    """
    newest = checkpoint.latest(folder.checkpoints)
    if newest is None:
        raise UserError(f"run {folder.path} has no checkpoint yet")
    if not blueprint.outputs:
        return None
    names = (RUN_FILE, "blueprint.yaml", "tokenizers", FOLDER, PLUGINS)
    kept = [*(folder.path / name for name in names), newest]
    files = {str(path.relative_to(folder.path)): str(path.relative_to(folder.path)) for path in kept if path.exists()}
    installed, output = versions(), first_asked(blueprint)
    return Model(
        name=NAME,
        files=files,
        loader=LOADER,
        inputs=_inputs(blueprint),
        output=output,
        answer="string" if blueprint.outputs[output].form in ("generate", "rank") else "double",
        example=_example(blueprint, output),
        step=read_manifest(newest).step,
        requirements=[f"{name}=={installed[name].partition('+')[0]}" for name in installed if name != "python"],
    )


def _example(blueprint: CheckedBlueprint, output: str) -> dict[str, str | float]:
    """Make a row that the output can be asked with: a red disc and its name, nothing of the data."""
    from PIL import Image, ImageDraw

    picture, packed = Image.new("RGB", (64, 64), "white"), BytesIO()
    ImageDraw.Draw(picture).ellipse((14, 14, 50, 50), fill="red")
    picture.save(packed, "PNG")
    disc = base64.b64encode(packed.getvalue()).decode()
    values: dict[str, str | float] = {"image": disc, "text": "a red circle", "number": 0.0, "id": "0", "label": "0"}
    return {
        field: values[type_of_field(blueprint, inputs)] for field, inputs in fields_asked(blueprint, output).items()
    }


def _inputs(blueprint: CheckedBlueprint) -> dict[str, str]:
    """List the fields that outputs read, with MLflow's names of types: pictures are paths, addresses or base64."""
    types: dict[str, str] = {}
    for output in blueprint.outputs:
        fields = fields_asked(blueprint, output)
        types |= {field: _TYPES[type_of_field(blueprint, inputs)] for field, inputs in fields.items()}
    return types

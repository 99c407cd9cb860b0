"""Import once what the commands import, so that Python writes their byte code now and not at somebody's first command.

Compiling all of site-packages takes over a minute and three quarters of it is never imported.
"""

import importlib
import sys

MODULES = (
    "torch",
    "torchvision.transforms.v2",
    "timm",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "tokenizers",
    "accelerate",
    "mlflow",
    "mlflow.tracking",
    "torchmetrics",
    "pydantic",
    "typer",
    "rich.progress",
    "open_clip",
)


def main() -> None:
    """Import every module, with byte code written whatever the environment says."""
    sys.dont_write_bytecode = False
    for name in MODULES:
        importlib.import_module(name)


if __name__ == "__main__":
    main()

"""`compose-vlp schema`: what editors need to complete and check blueprints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from compose_vlp.cli.console import err, print_json
from compose_vlp.cli.options import Plugins, import_plugins

EXAMPLES = (
    ("beside your blueprints, for the editor", "compose-vlp schema --out schema.json"),
    ("with the kinds of a file of your own", "compose-vlp schema --plugin mine.py --out schema.json"),
)


def command(
    path: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write here; to standard output if left out.", show_default=False),
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Write the JSON Schema by which editors check blueprints.

    It knows every kind with its settings and their bounds. Editors with the YAML language server (VS Code, Neovim,
    Emacs, JetBrains) use it in files whose first line is `# yaml-language-server: $schema=schema.json`.
    """
    from compose_vlp import registry
    from compose_vlp.blueprint.schema import json_schema
    from compose_vlp.files import write_atomic

    import_plugins(plugins)
    schema = json_schema(registry.get(name) for name in registry.names())
    if path is None:
        print_json(schema)
        return
    write_atomic(path, json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    err().print(f"{path}: begin a blueprint with  # yaml-language-server: $schema={path}", soft_wrap=True)

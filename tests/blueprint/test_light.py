"""Reading a blueprint runs no code and imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "numpy", "timm", "transformers", "mlflow", "scipy", "pydantic"}


def test_resolving_and_showing_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from compose_vlp.blueprint.resolve import resolve\n"
        "from compose_vlp.blueprint.write import write\n"
        "from compose_vlp.blueprint.render import render\n"
        "from compose_vlp.blueprint.show import as_data\n"
        "from compose_vlp.blueprint.diff import diff\n"
        "found = resolve(['coca_large'])\n"
        "assert not found.problems\n"
        "write(found.document), as_data(found.document), diff(found.document, found.document)\n"
        "print(' '.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())

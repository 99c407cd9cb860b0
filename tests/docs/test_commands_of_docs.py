"""What the pages tell a reader to type works, page by page, in an empty folder.

`COMPOSE_VLP_DOCS_STEPS` cuts every training in them to that many steps; without it two steps are taken.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, runnable_pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = runnable_pages(ROOT)


def environment() -> dict[str, str]:
    """This process's, with the commands of this Python first and trainings cut short."""
    commands = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "COMPOSE_VLP_DOCS_STEPS": os.environ.get("COMPOSE_VLP_DOCS_STEPS", "2"),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one block in that folder, output and errors together."""
    script = block.body if block.language == "python" else f"set -euo pipefail\n{block.body}"
    interpreter = [sys.executable, "-"] if block.language == "python" else ["bash", "-s"]
    return subprocess.run(
        interpreter,
        input=script,
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a machine that does much else
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_of_the_page_work(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.body, encoding="utf-8")
            continue
        done = run(block, tmp_path)
        assert done.returncode == 0, f"{page}:{block.line} exited with {done.returncode}\n{block.body}\n{done.stdout}"

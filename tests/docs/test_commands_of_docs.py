"""What the pages and the notebooks tell a reader to type works, one by one, each in an empty folder.

`COMPOSE_VLP_DOCS_STEPS` cuts every training in them to that many steps; without it two steps are taken.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.gen_notebooks import NOTEBOOKS
from tests.docs.notebooks import program
from tests.docs.pages import Block, blocks, runnable_pages
from tests.docs.warm import warm_programs

ROOT = Path(__file__).resolve().parents[2]
PAGES = runnable_pages(ROOT)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """This process's, with the commands of this Python first and trainings cut short."""
    programs, commands = tmp_path_factory.mktemp("programs"), Path(sys.executable).parent
    set_here = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(commands), os.environ["PATH"]]),
        "COMPOSE_VLP_DOCS_STEPS": os.environ.get("COMPOSE_VLP_DOCS_STEPS", "2"),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    with warm_programs(programs):
        yield set_here


def run(block: Block, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one block in that folder, output and errors together."""
    script = block.body if block.language == "python" else f"set -euo pipefail\n{block.body}"
    return subprocess.run(
        ["python", "-"] if block.language == "python" else ["bash", "-s"],
        input=script,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a machine that does much else
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_of_the_page_work(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.body, encoding="utf-8")
            continue
        done = run(block, tmp_path, environment)
        assert done.returncode == 0, f"{page}:{block.line} exited with {done.returncode}\n{block.body}\n{done.stdout}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_from_its_first_cell_to_its_last(
    notebook: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run(Block("python", program(notebook), 1), tmp_path, environment)
    assert done.returncode == 0, f"{notebook} exited with {done.returncode}\n{done.stdout}"

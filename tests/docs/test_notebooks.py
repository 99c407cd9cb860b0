"""The reader of notebooks takes what the tutorials have, refuses what would not run, and each tutorial can be found."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from docs.gen_notebooks import NOTEBOOKS, Cell, cells, page
from tests.docs.notebooks import program
from tests.docs.pages import Block
from tests.docs.test_commands_of_docs import run

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))


def write(folder: Path, *cells_of_code: str, nbformat: int = 4, **extra: object) -> Path:
    title = {"cell_type": "markdown", "source": ["# A title\n", "See [another](b.ipynb)."]}
    code = [{"cell_type": "code", "source": text, "outputs": [], **extra} for text in cells_of_code]
    file = folder / "a.ipynb"
    file.write_text(json.dumps({"nbformat": nbformat, "cells": [title, *code]}), encoding="utf-8")
    return file


def test_cells_are_told_apart_by_their_first_line(tmp_path: Path) -> None:
    assert cells(write(tmp_path, "%%bash\ntrue", "%%writefile a.yaml\nx: 1", "x = 1\nx")) == [
        Cell("markdown", "# A title\nSee [another](b.ipynb).\n"),
        Cell("bash", "true\n"),
        Cell("file", "x: 1\n", "a.yaml"),
        Cell("python", "x = 1\nx\n"),
    ]


@pytest.mark.parametrize(
    ("notebook", "says"),
    [
        ({"nbformat": 3}, "a.ipynb: notebooks of format 4 are read, this one has 3"),
        ({"outputs": [{}]}, "cell 2: a cell of code without outputs"),
        ({"execution_count": 7}, "cell 2: a cell of code without outputs"),
        ({"code": "x = 1\n!ls"}, "cell 2: of magic, `%%bash`"),
        ({"code": "%%time\nx = 1"}, "cell 2: of magic, `%%bash`"),
        ({"code": "%%writefile\nx = 1"}, "cell 2: of magic, `%%bash`"),
    ],
)
def test_what_would_not_run_or_was_kept_is_refused(tmp_path: Path, notebook: dict[str, object], says: str) -> None:
    code = str(notebook.pop("code", "x = 1"))
    with pytest.raises(ValueError, match=re.escape(says)):
        cells(write(tmp_path, code, **notebook))  # type: ignore[arg-type]


def test_a_notebook_is_one_process_in_which_a_failing_cell_fails(tmp_path: Path) -> None:
    def done(*code: str) -> tuple[int, str]:
        ended = run(Block("python", program(write(tmp_path, *code)), 1), tmp_path, dict(os.environ))
        return ended.returncode, ended.stdout

    assert done("x = 1", "%%writefile a.txt\nkept", "%%bash\ncat a.txt", "x + 1") == (0, "kept\n2\n")
    assert done("%%bash\nfalse\ntrue")[0] != 0
    assert done("raise SystemExit(3)", "1")[0] == 3


def test_a_page_has_every_cell_and_links_to_pages(tmp_path: Path) -> None:
    text = page(write(tmp_path, "%%bash\ntrue", "%%writefile a.yaml\nx: 1", "x = 1"))
    assert text.startswith("# A title\n\n[This page as a notebook](a.ipynb)")
    assert "[another](b.md)" in text
    assert (
        "```bash\ntrue\n```" in text and '```yaml title="a.yaml"\nx: 1\n```' in text and "```python\nx = 1\n```" in text
    )


def test_every_notebook_is_in_the_navigation_and_in_readme(root: Path) -> None:
    navigation, readme = ((root / name).read_text(encoding="utf-8") for name in ("mkdocs.yml", "README.md"))
    assert ALL
    assert [file.stem for file in ALL if f"notebooks/{file.stem}.md" not in navigation] == []
    assert [file.stem for file in ALL if f"docs/notebooks/{file.stem}.ipynb" not in readme] == []

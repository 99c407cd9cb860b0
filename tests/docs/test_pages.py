"""The reader of runnable blocks reads what a page's author meant, and refuses what would silently not run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks
from tests.docs.test_commands_of_docs import run

PAGE = """\
# A page
```bash
not announced
```

<!-- save: folder/a.yaml -->
```yaml title="a.yaml"
x: 1
```

<!-- run -->
```bash
cat folder/a.yaml
```

<!-- run -->
```python
first = 1
```
Prose.

<!-- run -->
```python
print(first)
```
"""


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_announced_blocks_are_read_in_order_and_python_goes_on(tmp_path: Path) -> None:
    assert blocks(write(tmp_path, PAGE)) == [
        Block("yaml", "x: 1\n", 8, "folder/a.yaml"),
        Block("bash", "cat folder/a.yaml\n", 13),
        Block("python", "first = 1\n" + "\n" * 5 + "print(first)\n", 18),
    ]


def test_announcement_without_a_block_below_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="above no fenced block"):
        blocks(write(tmp_path, "<!-- run -->\n\n```bash\ntrue\n```\n"))


def test_language_that_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.md:3: a yaml block cannot run"):
        blocks(write(tmp_path, "<!-- run -->\n```yaml\nx: 1\n```\n"))


def test_a_failing_command_in_the_middle_of_a_block_fails_it(tmp_path: Path) -> None:
    assert run(Block("bash", "false | true\ntrue\n", 1), tmp_path, dict(os.environ)).returncode != 0
    assert run(Block("python", "raise SystemExit(3)\n", 1), tmp_path, dict(os.environ)).returncode == 3


def test_a_component_of_ones_own_takes_at_most_fifteen_lines() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
    (adapter,) = [block for block in blocks(page) if block.file == "adapter.py"]
    assert len([line for line in adapter.body.splitlines() if line.strip()]) <= 15

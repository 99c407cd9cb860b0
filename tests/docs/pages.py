"""The parts of a Markdown page that run: blocks announced by a comment on the line above their fence.

    <!-- run -->                  a `bash` or `python` block that runs, in the page's folder
    <!-- save: adapter.py -->     a block of any language that is written to that file first

Comments, because they show neither in the built site nor where the page is read as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^<!-- (?P<order>run|save: (?P<file>\S+)) -->\n```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ANNOUNCEMENT = re.compile(r"^\s*<!-- *(run|save)\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block that runs, or that is saved where `file` is set; `line` is its first line in the page."""

    language: str
    body: str
    line: int
    file: str | None = None


def blocks(page: Path) -> list[Block]:
    """The announced blocks of a page, in order.

    Python blocks that follow each other without a shell block between are one program, as they are to a reader.

    Raises:
        ValueError: an announcement that is followed by no fenced block, or a language that cannot run.
    """
    text = page.read_text(encoding="utf-8")
    actual: list[Block] = []
    matches = list(BLOCK.finditer(text))
    if len(matches) != len(ANNOUNCEMENT.findall(text)):
        raise ValueError(f"{page}: an announcement stands above no fenced block")
    for match in matches:
        line = text.count("\n", 0, match.start("body")) + 1
        block = Block(match["language"], match["body"], line, match["file"])
        if block.file is None and block.language not in ("bash", "python"):
            raise ValueError(f"{page}:{line}: a {block.language} block cannot run")
        last = actual[-1] if actual else None
        if last and block.language == last.language == "python" and block.file is last.file is None:
            # Blank lines between, so that a traceback counts lines as the page does.
            gap = "\n" * (block.line - last.line - last.body.count("\n"))
            actual[-1] = Block("python", last.body + gap + block.body, last.line)
        else:
            actual.append(block)
    return actual


def runnable_pages(root: Path) -> list[Path]:
    """README, CONTRIBUTING and the pages of `docs/` that have blocks to run."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in pages if page.is_file() and ANNOUNCEMENT.search(page.read_text(encoding="utf-8"))]

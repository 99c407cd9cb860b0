"""Whatever the program, its hints and the blueprints' headers tell a reader to type is right: every option exists, and
every blueprint with its changes passes `check`."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from compose_vlp import Blueprint
from compose_vlp.cli.options import sort_words
from compose_vlp.cli.run import application, run
from compose_vlp.cli.table import COMMANDS, PROGRAM
from compose_vlp.cli.top_help import FIRST_STEPS
from compose_vlp.data.detect_source import is_data

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^(<!-- .* -->\n)?```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {"...", "BLUEPRINT", "FILE"}
"""Words of a line that stand for what only the reader knows."""


def _of_help() -> Iterator[str]:
    yield from (f"{PROGRAM} {line}" for line, _ in FIRST_STEPS)
    for entry in COMMANDS:
        yield from (_without_file(line) for _, line in importlib.import_module(entry.module).EXAMPLES)


def _without_file(line: str) -> str:
    """A command without the file that its output goes into; a `>` between quotation marks is its own."""
    return re.sub(r" > \S+$", "", line)


def _of_hints() -> Iterator[str]:
    """Commands between backticks in the program's own texts, with all their arguments."""
    for file in sorted((ROOT / "compose_vlp").rglob("*.py")):
        for line in re.findall(rf"`({PROGRAM} [^`]+)`", file.read_text(encoding="utf-8")):
            if len(line.split()) > 2 and not re.search(r"[{}]|\b[A-Z]{3,}\b", line):
                yield line


def _of_headers() -> Iterator[str]:
    """Commands in the comments above blueprints; one that goes over several lines is read whole."""
    for file in sorted((ROOT / "blueprints").rglob("*.yaml")):
        comment = [line.lstrip("# ") for line in file.read_text(encoding="utf-8").split("\n") if line.startswith("#")]
        for number, line in enumerate(comment):
            at = line.find(f"{PROGRAM} ")
            if at >= 0:
                longer = (
                    _joined([line[at:], *comment[number + 1 : end]]) for end in range(number + 1, len(comment) + 1)
                )
                yield next(filter(_is_whole, longer))


def _of_pages() -> Iterator[str]:
    """Commands in the pages' blocks that do not run; those over the reader's own files are read, and not checked."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for announced, body in FENCED.findall(page.read_text(encoding="utf-8")):
            text = re.sub(r"\\\n\s*", "", body)
            for line in text.split("\n") if not announced else ():
                if line.startswith(f"{PROGRAM} ") and not re.search(r"\b[A-Z_]{4,}\b|[|<>]|\$\(", _bare(line)):
                    yield line


def _bare(line: str) -> str:
    """A line without what stands between quotation marks."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "", line)


def _joined(parts: list[str]) -> str:
    """Lines of a command as one; a backslash at the end of a line goes on with the next."""
    return " ".join(parts).replace("\\ ", " ")


def _is_whole(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def lines() -> list[str]:
    actual = dict.fromkeys([*_of_help(), *_of_hints(), *_of_headers(), *_of_pages()])
    return [line for line in actual if not PLACEHOLDERS & set(shlex.split(line, comments=True)) and "..." not in line]


LINES = lines()


def _cells(line: str) -> str:
    """A sweep's line without what changes none of its cells."""
    return re.sub(r" --(no-track|dry-run|jobs \d+)\b", "", line)


@pytest.mark.parametrize("line", LINES)
def test_an_example_works(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("extends: albef\n")
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == PROGRAM
    command = typer.main.get_command(application([name])).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, [*arguments]).params
    words = given.get("words") or [given[key] for key in ("first", "second") if given.get(key)]
    files = [word for word in words if re.search(r"\.(yaml|py|csv|jsonl|json)\b", word) and not Path(word).exists()]
    if files or any(str(word).startswith("runs/") for word in words):
        return  # the reader's own
    if name == "sweep":
        if line != next(other for other in LINES if _cells(other) == _cells(line)):
            return  # its cells are checked for the first of these lines
        assert run([name, *arguments, "--dry-run"]) == 0
    elif words and not is_data(words[0]):
        request = sort_words(words)
        if name == "diff" and len(request.blueprints) == 2:
            for names in request.blueprints:
                Blueprint.load(*names.split("+"), overrides=request.overrides).check()
        else:
            Blueprint.load(*request.blueprints, overrides=request.overrides).check()


def test_there_are_examples_of_every_sort() -> None:
    assert len(list(_of_help())) > len(COMMANDS)
    assert list(_of_hints())
    assert len(list(_of_headers())) > 20

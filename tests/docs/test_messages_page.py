"""The page of messages is read from the code; what it has is held to mistakes that are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import compose_vlp
from compose_vlp import Blueprint, UserError
from compose_vlp.data import open_source
from compose_vlp.report.loose import study_of
from compose_vlp.report.runs import find_runs
from docs.gen_messages import Message, messages, page, read
from docs.gen_mistakes import MISTAKES, Mistake, printed_for
from tests.report.made import make_run

PRINTED = re.compile(r"^(?:[\w/]+\.yaml:\d+:\d+|command line): (.*)$", re.MULTILINE)


@cache
def every() -> list[Message]:
    """All messages; reading them takes two seconds, of which other processes of the suite have no use."""
    return messages()


@pytest.fixture(scope="module")
def written() -> str:
    return page()


def entries(message: str) -> list[Message]:
    return [entry for entry in every() if entry.fits(message)]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_every_message_of_the_gallery_can_be_looked_up(mistake: Mistake) -> None:
    printed = PRINTED.findall(printed_for(mistake))
    assert printed
    assert [message for message in printed if not entries(message)] == []


MADE: list[tuple[Callable[[], object], str]] = [
    (lambda: compose_vlp.load("runs/nowhere"), "no run …: it is neither a run folder"),
    (lambda: Blueprint.load("tiny/cocoa").check(), "no blueprint is called …"),
    (
        lambda: Blueprint.load("tiny/coca", overrides="components.vision.heads=5").check(),
        "`…`: … … does not divide",
    ),
    (lambda: Blueprint.load("tiny/coca").memory(card="h10"), "no card is known as …"),
    (lambda: Blueprint.load("tiny/coca").memory(world=3), "… processes do not divide a batch of …"),
    (lambda: open_source({"use": "csv", "path": "missing.csv"}), "no file …"),
    (lambda: find_runs([Path("nowhere")]), "no folder …"),
    (lambda: study_of([make_run(Path("run"))]), "one run is nothing to compare"),
]


@pytest.mark.parametrize(("mistake", "begins"), MADE, ids=[begins for _, begins in MADE])
def test_a_mistake_is_found_by_its_first_words_with_its_way_out(
    mistake: Callable[[], object], begins: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        mistake()
    (problem,) = caught.value.problems
    fitting = [entry for entry in entries(problem.message) if entry.text.startswith(begins)]
    assert fitting, problem.message
    assert not problem.hints or any(entry.hints for entry in fitting)
    assert f"\n{fitting[0].text}\n" in written


CODE = '''
"""Records of a kind: more is not said here."""
HINT = "a way"
def read(path, names, twice):
    if twice:
        message, hints = "", ()
        message = f"{path}: two words " + ("here" if names else "there")
        raise UserError(message, hints=(HINT, *did_you_mean(path, names)))
    named = "one" if names else other(path)
    problems.add(f"no {named} is in {path!r}", path, "a second way", related=(("it is here", path),))
    refuse(path, 1, 2, "three words here", way(path))
    seen.add("lonely")
    raise UserError(str(path))
def way(path):
    return f"another than {path}"
'''


def test_messages_are_read_with_what_is_ours_written_out_and_without_running_anything() -> None:
    actual = {message.text: message.hints for message in read(CODE, Path("compose_vlp/data/kind.py"))}
    assert actual == {
        "…: two words here": ("a way", "did you mean …?"),
        "…: two words there": ("a way", "did you mean …?"),
        "no one is in …": ("a second way",),
        "no … is in …": ("a second way",),
        "three words here": ("another than …",),
    }
    assert {message.about for message in read(CODE, Path("compose_vlp/data/kind.py"))} == {"Records of a kind"}

"""Whatever a person writes, they read about their blueprint, and not about our code."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from compose_vlp.errors import UserError
from tests.graph.support import FIVE, PAPERS, checked

TEXTS = {name: (PAPERS / f"{name}.yaml").read_text() for name in (*FIVE, "hybrids/albef_two_towers")}
WORDS = [word for text in TEXTS.values() for word in re.findall(r"\w+|[^\w\s]", text)]


def spoilt(text: str, dice: random.Random) -> str:
    """A text with a few pieces replaced, left out or put in."""
    pieces = re.findall(r"\w+|\s+|[^\w\s]", text)
    for _ in range(dice.choice([1, 1, 2, 5])):
        place, what = dice.randrange(len(pieces)), dice.random()
        if what < 0.5:
            pieces[place] = dice.choice(WORDS)
        elif what < 0.75:
            del pieces[place]
        else:
            pieces.insert(place, dice.choice(WORDS))
    return "".join(pieces)


@pytest.mark.parametrize("name", TEXTS)
def test_a_spoilt_paper_is_refused_or_means_something(name: str, tmp_path: Path) -> None:
    dice = random.Random(name)
    file = tmp_path / "spoilt.yaml"
    refused = 0
    for _ in range(12):
        file.write_text(spoilt(TEXTS[name], dice))
        try:
            checked(str(file))
        except UserError:
            refused += 1
    assert refused


@pytest.mark.parametrize("key", ["'clip/'", "clip\u202e", "'1'", "a b"])
@pytest.mark.parametrize("section", ["optimizer", "compiler", "tracking"])
def test_a_key_that_is_no_name_is_refused_in_sections_without_names_too(key: str, section: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(f"extends: coca\n{section}: {{{key} 1, weight_decay/ 0.01}}\n")
    with pytest.raises(UserError):
        checked(str(tmp_path / "own.yaml"))

"""Whatever a person does to a blueprint or types after it: mistakes with places, never an exception."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compose_vlp.blueprint.diff import diff
from compose_vlp.blueprint.render import render
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.show import as_data
from compose_vlp.blueprint.write import write
from tests.blueprint.conftest import PAPERS

TEXTS = [path.read_text(encoding="utf-8") for path in sorted(PAPERS.rglob("*.yaml"))]
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    " #",
    "'",
    '"',
    "\n",
    "  ",
    "- ",
    "*",
    "&x ",
    "!t ",
    "|\n  x",
    ">",
    "$",
    "=",
    "(",
    ")",
]
PIECES += [
    ".",
    "~",
    "previous",
    "albef",
    "null",
    "graph:\n",
    "drop: [",
    "extends: ",
    "x-a: 1\n",
    "train: []\n",
    "é",
    "1e9",
]
OVERRIDES = [
    "t=adapter(previous)",
    "~losses.*",
    "~x-a",
    "~x-a.b",
    "x-a.b=1",
    "+x-b={a:1}",
    "inputs.*.size=3",
    "components.*.depth={a:[",
    "~graph.*",
    "~inputs.*",
    "~components.*",
    "stages=3",
    "stages.a=1",
    "stages={}",
    "graph={}",
    "graph=3",
    "params=",
    "alpha=[1,2]",
    "losses={}",
    "~stages",
    "+params.b={linear:[0,1]}",
    "optimizer.lr=$alpha",
    "optimizer=3",
    "name=[a]",
    "freeze={a:1}",
    "freeze=*",
    "=",
    "~",
    "+",
    "+a=",
    "a.b.c.d=1",
    "~*.*",
    "drop=x",
    "components.vision.use.x=1",
    "inputs.image.type=id",
    "outputs.match={generate:a}",
    "data.x=1",
    "*.*.size=1",
    "components.*.use=vit",
]


@pytest.mark.parametrize("seed", range(8))
def test_no_text_and_no_override_is_an_exception(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    for _ in range(12):
        text = draw.choice(TEXTS)
        for _ in range(draw.randint(0, 5)):
            start = draw.randrange(len(text) + 1)
            text = text[:start] + draw.choice(PIECES) + text[start + draw.choice([0, 0, 1, 3, 20]) :]
        Path("f.yaml").write_text(text, encoding="utf-8")
        names = ["f.yaml", *draw.choice([[], [], ["tasks/vqa_generate"]])]
        resolution = resolve(names, draw.sample(OVERRIDES, draw.choice([0, 0, 1, 2, 3])), library=PAPERS)
        document = resolution.document
        assert all(problem.span and problem.span.line >= 1 for problem in resolution.problems)
        assert render(resolution.problems, document.lines())
        assert as_data(document)["document"] is not None
        assert write(document)
        assert diff(document, document) == []

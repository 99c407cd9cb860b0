"""explain: a map over a picture from the command line, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from compose_vlp.cli.run import run as run_command
from tests.cli.support import Cli
from tests.models import TINY

ALBEF = (*TINY, "stages.pretrain.length=1 steps", "stages.pretrain.batch=4")


@pytest.fixture(scope="module")
def albef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("albef") / "run"
    assert run_command(["train", "tiny/albef", *ALBEF, "--no-track", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.effect_noise((40, 20), 90).convert("RGB").save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


ASKED = "explain --image cat.png --text 'a red circle'"


def test_a_sheet_of_pictures_goes_into_the_run_s_reports(cli: Cli, albef: Path, picture: Path) -> None:
    result = cli(ASKED, str(albef))
    assert result.code == 0, result.err
    assert "note: `matched`, through layer 0 of `fusion`" in result.err
    assert "% from the left" in result.out
    with Image.open(albef / "reports" / "explain_cat.png") as sheet:
        assert sheet.width > 400 and len(sheet.getcolors(1 << 20) or []) > 100


def test_numbers_for_scripts_and_a_page(cli: Cli, albef: Path, picture: Path, tmp_path: Path) -> None:
    result = cli(f"{ASKED} --json --layer 1 --out found/cat.html", str(albef))
    assert (result.code, result.err) == (0, "")
    output = json.loads(result.out)
    assert output["explained"] == {"relevance": "matched", "to": "v", "through": "fusion", "layer": 1}
    assert output["words"][0]["word"] == "[CLS]"
    assert output["words"][0]["share"] == pytest.approx(1), "in the last layer the score reads the CLS alone"
    assert [len(row) for row in output["map"]] == [2, 2]
    assert all(0 <= share <= 1 for share in output["highest"].values())
    page = (tmp_path / "found" / "cat.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 1 + len(output["words"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{ASKED} --out cat.gif", "cat.gif is neither a .png nor a .html"),
        (ASKED.replace("cat.png", "dog.png"), "no picture 'dog.png'"),
        (f"{ASKED} --layer 2", "`fusion` has 2 layers, and no layer 2"),
        (f"{ASKED} --output match", "output 'match' of albef_tiny explains no score"),
        ("explain --image text.png --text 'a red circle'", "text.png"),
        ("explain --image cat.png --text ''", "cannot be asked"),
    ],
)
def test_mistakes_are_explained(cli: Cli, albef: Path, picture: Path, tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    result = cli(line, str(albef))
    assert result.code == 2
    assert says in " ".join(result.err.split())
    assert "Traceback" not in result.err

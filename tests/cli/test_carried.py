"""A run carries its plugins and knows its data: it means the same wherever it is taken, and whatever has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compose_vlp import load, plugins
from tests.cli.support import SHORT, Cli
from tests.cli.test_whose_fault import ADAPTER, USED

SCALED = ADAPTER.replace("return x.with_features(x.features +", "return x.with_features(FACTOR * x.features +")
BESIDE = f"from scaling import FACTOR\n{SCALED}"
MEASURE = "--task retrieval --count 4 --json"


def scores(cli: Cli, run: str, more: str = "") -> tuple[dict[str, float], str]:
    result = cli(f"evaluate {run} {MEASURE} {more}")
    assert result.code == 0, result.err
    return json.loads(result.out)["scores"], result.err


@pytest.fixture
def run(cli: Cli) -> Path:
    Path("parts").mkdir()
    Path("parts/adapter.py").write_text(BESIDE, encoding="utf-8")
    Path("parts/scaling.py").write_text("FACTOR = 2.0\n", encoding="utf-8")
    Path("parts/unread.py").write_text("FACTOR = 3.0\n", encoding="utf-8")
    result = cli(f"train tiny/coca --no-track --out run --plugin parts/adapter.py {USED}", *SHORT)
    assert result.code == 0, result.err
    return Path("run")


def test_a_run_is_used_without_its_plugin_s_file(cli: Cli, run: Path) -> None:
    before, printed = scores(cli, "run")
    assert "changed" not in printed
    assert sorted(file.name for file in (run / "plugins/1").iterdir()) == ["adapter.py", "scaling.py"]
    shutil.rmtree("parts")
    shutil.move("run", "elsewhere")
    assert scores(cli, "elsewhere") == (before, printed)
    Image.new("RGB", (20, 20), "red").save("picture.png")
    assert cli("generate elsewhere picture.png").code == 0
    assert cli("train --resume elsewhere --no-track").code == 0


@pytest.mark.parametrize(("file", "old", "new"), [("adapter.py", "FACTOR * x", "0 * x"), ("scaling.py", "2.0", "9.0")])
def test_a_changed_original_is_told_and_not_used(cli: Cli, run: Path, file: str, old: str, new: str) -> None:
    before, _ = scores(cli, "run")
    original = Path("parts", file)
    original.write_text(original.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    after, printed = scores(cli, "run")
    assert after == before
    assert "adapter.py has changed since the run was trained" in printed and "--plugin" in printed
    model = load("run", note=lambda text: None)
    insisted = load("run", plugins=["parts/adapter.py"], note=lambda text: None)
    pictures = {"image": [np.zeros((16, 16, 3), np.uint8)]}
    assert not model.image_embedding(**pictures).equal(insisted.image_embedding(**pictures))
    assert load("run", note=lambda text: None).image_embedding(**pictures).equal(model.image_embedding(**pictures))
    again = json.loads(cli("reproduce run --no-track --json --plugin parts/adapter.py --out again").out)
    assert again["circumstances"] == ["plugin parts/adapter.py is not what the run was trained with"]
    assert not again["same_weights"]


def test_a_data_file_beside_a_plugin_is_not_carried_and_is_told_of(cli: Cli) -> None:
    Path("parts").mkdir()
    read = "from pathlib import Path\nFACTOR = float(Path(__file__).with_name('factor.txt').read_text())\n"
    Path("parts/adapter.py").write_text(read + SCALED, encoding="utf-8")
    Path("parts/factor.txt").write_text("2.0", encoding="utf-8")
    result = cli(f"train tiny/coca --no-track --out run --plugin parts/adapter.py {USED}", *SHORT)
    assert result.code == 0, result.err
    shutil.rmtree("parts")
    for plugin in [plugin for plugin in plugins._LOADED.values() if plugin.path.name == "adapter.py"]:
        plugins._forget(plugin)  # as in another process
    result = cli(f"evaluate run {MEASURE}")
    assert result.code == 2
    assert "factor.txt, which is not here: a run carries no data files of plugins" in result.out


def test_a_damaged_copy_is_refused(cli: Cli, run: Path) -> None:
    (run / "plugins/1/scaling.py").write_text("FACTOR = 4.0\n", encoding="utf-8")
    result = cli(f"evaluate run {MEASURE}")
    assert result.code == 2 and "scaling.py is not as the run was trained with" in result.out


def test_two_plugins_with_files_of_one_name_beside_them_are_carried(cli: Cli) -> None:
    for folder, factor, name in (("a", "2.0", "one"), ("b", "3.0", "two")):
        Path(folder).mkdir()
        text = BESIDE.replace("my_adapter", f"adapter_{name}")
        Path(folder, f"{name}.py").write_text(text, encoding="utf-8")
        Path(folder, "scaling.py").write_text(f"FACTOR = {factor}\n", encoding="utf-8")
    parts = (
        "'+components.scale_one={use: adapter_one, hidden: 8}' '+components.scale_two={use: adapter_two, hidden: 8}'"
    )
    line = f"train tiny/coca --no-track --out run --plugin a/one.py --plugin b/two.py {parts}"
    assert cli(f"{line} 'visual=scale_two(scale_one(previous))'", *SHORT).code == 0
    before, _ = scores(cli, "run")
    shutil.rmtree("a")
    shutil.rmtree("b")
    assert scores(cli, "run")[0] == before
    assert Path("run/plugins/1/scaling.py").read_text() != Path("run/plugins/2/scaling.py").read_text()


def test_a_run_without_plugins_carries_none(cli: Cli) -> None:
    assert cli("train tiny/coca --no-track --out run", *SHORT).code == 0
    assert not Path("run/plugins").exists()


# --- data ---------------------------------------------------------------------------------------------------------


def jsonl(folder: Path, captions: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (20, 20), "red").save(folder / "red.png")
    lines = (json.dumps({"image": "red.png", "caption": text}) for text in captions)
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_run_reads_its_own_data_from_any_folder(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jsonl(Path("data"), ["a red square", "a red circle"] * 4)
    short = [override for override in SHORT if not override.startswith("data.")]
    data = "'data.pairs={use: jsonl, path: data/pairs.jsonl}'"
    result = cli(f"train tiny/coca --no-track --out run {data} components.bpe.vocab_size=300", *short)
    assert result.code == 0, result.err
    before, printed = scores(cli, "run")
    assert "something else" not in printed
    other = tmp_path / "other"
    other.mkdir()
    jsonl(other / "data", ["nothing of this"] * 8)
    monkeypatch.chdir(other)
    assert scores(cli, "../run")[0] == before
    jsonl(tmp_path / "data", ["a red circle", "a red square"] * 4)
    assert "`pairs` holds something else than when the run was trained" in scores(cli, "../run")[1]
    assert "something else" not in scores(cli, "../run", "data.pairs.path=data/pairs.jsonl")[1]
    refused = cli("train --resume ../run --no-track")
    assert refused.code == 2 and "data `pairs` is not what this run was trained on so far" in refused.err
    assert cli("train --resume ../run --no-track --changed-data").code == 0
    assert "something else" not in scores(cli, "../run")[1], "it has been trained on this since"

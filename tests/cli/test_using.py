"""train, evaluate, generate, verify: from a blueprint to captions of pictures, on a few steps."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from compose_vlp.cli.run import run as run_command
from compose_vlp.run import load
from compose_vlp.runtime.state import checkpoint
from tests.cli.support import Cli
from tests.models import TOWERS

SMALL = ("stages.pretrain.length=4 steps", "stages.pretrain.batch=4", "components.vision.depth=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run_command(["train", "tiny/coca", *SMALL, "--no-track", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures and a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("b.png", "red"), ("a.JPG", "blue")):
        Image.new("RGB", (80, 60), colour).save(folder / name)
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    return folder


# --- train ------------------------------------------------------------------------------------------------------


def test_training_leaves_a_run_with_all_its_papers(trained: Path) -> None:
    assert json.loads((trained / "run.json").read_text(encoding="utf-8"))["status"] == "FINISHED"
    for file in ("blueprint.yaml", "artifacts/graph.html", "artifacts/plan.json", "artifacts/programs/pretrain.py"):
        assert (trained / file).is_file()
    assert checkpoint.latest(trained / "checkpoints") is not None


def test_training_says_where_the_run_is_and_what_comes_next(cli: Cli) -> None:
    result = cli("train tiny/coca --no-track --out here", *SMALL, "stages.pretrain.length=1 steps")
    assert result.code == 2  # two overrides of one path
    result = cli("train tiny/coca --no-track --out here", *SMALL[1:], "stages.pretrain.length=1 steps")
    assert result.code == 0
    assert "Trained: here" in result.out
    assert "compose-vlp evaluate here" in result.out
    assert "pretrain 1/1  contrastive" in result.err


def test_training_of_a_mistake_makes_no_run(cli: Cli, tmp_path: Path) -> None:
    assert cli("train tiny/coca --no-track components.vision.heads=3").code == 2
    assert not (tmp_path / "runs").exists()


def test_resume_takes_no_blueprint(cli: Cli, trained: Path) -> None:
    result = cli("train tiny/coca --resume", str(trained))
    assert result.code == 2
    assert "goes on with the run's own blueprint" in result.err


def test_resuming_a_finished_run_trains_nothing_more(cli: Cli, trained: Path) -> None:
    newest = checkpoint.latest(trained / "checkpoints")
    result = cli("train --no-track --json --resume", str(trained))
    assert result.code == 0
    assert json.loads(result.out) == {"run": str(trained), "status": "FINISHED"}
    assert checkpoint.latest(trained / "checkpoints") == newest


def test_a_run_goes_on_with_the_options_that_it_began_with(cli: Cli) -> None:
    began = "--without batch --distribute fsdp --checkpoint-every 7 --keep 3 --seed 2"
    short = (*SMALL[1:], "stages.pretrain.length=1 steps")
    assert cli(f"train tiny/coca --no-track --out here {began}", *short).code == 0

    def options(line: str) -> tuple[object, ...]:
        assert cli(f"train --no-track --resume here {line}").code == 0
        kept = json.loads(Path("here/run.json").read_text())["extra"]["options"]
        return tuple(kept[name] for name in ("without", "distribute", "checkpoint_every", "keep", "seed"))

    assert options("") == (["batch"], "fsdp", 7, 3, 2)
    assert options("--seed 2 --distribute ddp --without rows --keep 2") == (["rows"], "ddp", 7, 2, 2)
    other = cli("train --no-track --resume here --seed 0")
    assert other.code == 2 and "goes on with its own seed, 2: `--seed 0` cannot be" in other.err


def test_training_without_words_or_a_run_asks_for_a_blueprint(cli: Cli) -> None:
    result = cli("train")
    assert result.code == 2
    assert "no blueprint is named" in result.err


# --- evaluate ---------------------------------------------------------------------------------------------------


def test_evaluation_prints_scores_and_writes_a_page(cli: Cli, trained: Path) -> None:
    result = cli("evaluate --count 6", str(trained), "data.pairs.split=unseen")
    assert result.code == 0
    assert re.search(r"text for a picture, recall@1 +\S+ % +chance", result.out)
    assert "CIDEr-D" in result.out
    assert "image_to_text" not in result.out
    assert result.err == ""
    page = (trained / "reports" / "pairs.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 12, "each picture with the first text for it, and with its caption"
    assert "recall@10" in page


def test_evaluation_on_the_training_data_is_told(cli: Cli, trained: Path, tmp_path: Path) -> None:
    result = cli("evaluate --count 4 --task retrieval --json --out reports", str(trained))
    assert "on `pairs`, which it was trained with" in result.err
    output = json.loads(result.out)
    assert "captioning" not in output
    assert set(output["retrieval"]["image_to_text"]) == {"1", "5", "10"}
    assert output["records"] == 4
    assert (tmp_path / "reports" / "pairs.html").is_file()


@pytest.mark.parametrize(
    ("status", "says"),
    [("FINISHED", "of a finished run"), ("KILLED", "of a run that was stopped"), ("FAILED", "of a run that failed")],
)
def test_evaluation_says_which_weights_of_which_run_it_measured(
    cli: Cli, trained: Path, tmp_path: Path, status: str, says: str
) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**info, "status": status}), encoding="utf-8")
    asked = ("evaluate --count 4 --task retrieval", str(folder), "data.pairs.split=unseen")
    result = cli(*asked)
    assert f"Weights: step 4 (stage `pretrain`) {says}" in result.out
    assert ("goes on with it" in result.err) == (status != "FINISHED")
    assert f"step 4 (stage `pretrain`) {says}" in (folder / "reports" / "pairs.html").read_text(encoding="utf-8")
    weights = json.loads(cli(f"{asked[0]} --json", *asked[1:]).out)["weights"]
    expected = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}[status]
    assert weights == {"checkpoint": "step-00000004", "step": 4, "stage": "pretrain", "status": expected}


def test_zero_shot_of_pictures_of_one_object(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_text("a small {} in the centre\na large {} in the centre\n", encoding="utf-8")
    overrides = ("data.pairs.split=unseen", "data.pairs.min_objects=1", "data.pairs.max_objects=1")
    words = "evaluate --task zero_shot --label shape --templates templates.txt --count 30 --json"
    output = json.loads(cli(words, str(trained), *overrides).out)
    assert output["zero_shot"]["classes"] == ["circle", "cross", "ring", "square", "star", "triangle"]
    assert len(output["zero_shot"]["said"]) == 30
    assert 0 <= output["scores"]["zero_shot.accuracy_top_1"] <= output["scores"]["zero_shot.accuracy_top_5"] <= 1
    assert "What is taken for what" in Path(output["page"]).read_text(encoding="utf-8")


def test_reranking_takes_its_settings(cli: Cli, blip: Path) -> None:
    result = cli("evaluate --task retrieval --task reranking --count 8 --top 1 --json", str(blip))
    scores = json.loads(result.out)["scores"]
    assert scores["reranking.image_to_text_recall_at_1"] == scores["retrieval.image_to_text_recall_at_1"], (
        "one candidate stays first"
    )
    added = cli("evaluate --task reranking --count 8 --add-similarity", str(blip))
    assert added.code == 0 and "recall@1, re-ranked" in added.out


def test_evaluation_on_other_records(cli: Cli, trained: Path, pictures: Path) -> None:
    lines = [json.dumps({"image": name, "caption": f"caption {name}"}) for name in ("a.JPG", "b.png")]
    (pictures / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    change = f"+data.mine={{use: jsonl, path: {pictures / 'mine.jsonl'}}}"
    result = cli("evaluate --data mine --json", str(trained), change)
    assert result.err == ""
    output = json.loads(result.out)
    assert output["records"] == 2
    assert [captioned["references"] for captioned in output["captioning"]["said"]] == [
        ["caption a.JPG"],
        ["caption b.png"],
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "pair"), "did you mean 'pairs'?"),
        (("--task", "retrival"), "did you mean 'retrieval'?"),
        (("--task", "zero_shot"), "no class in a field 'label'"),
        (("--label", "shape", "--classes", "nowhere.txt"), "no file 'nowhere.txt'"),
        (("components.vision.depth=2",), "vision.depth: 1 in the checkpoint, 2 here"),
    ],
)
def test_evaluation_explains_mistakes(cli: Cli, trained: Path, words: tuple[str, ...], says: str) -> None:
    result = cli("evaluate", str(trained), *words)
    assert result.code == 2
    assert says in result.err


# --- generate ---------------------------------------------------------------------------------------------------


def test_generate_writes_a_line_for_each_picture(cli: Cli, trained: Path, pictures: Path) -> None:
    result = cli("generate", str(trained), str(pictures), "--max-length", "5")
    assert result.code == 0
    assert [line.split(":")[0] for line in result.out.strip().split("\n")] == [
        str(pictures / "a.JPG"),
        str(pictures / "b.png"),
    ]
    assert "these weights are step 4 (stage `pretrain`) of a finished run" in result.err


def test_generate_gives_a_script_pictures_and_captions(cli: Cli, trained: Path, pictures: Path) -> None:
    line = ("generate --json --beams 2 --max-length 5", str(trained), str(pictures / "b.png"))
    (captioned,) = json.loads(cli(*line).out)
    assert captioned["picture"] == str(pictures / "b.png")
    assert json.loads(cli(*line).out) == [captioned]


def test_draws_follow_the_seed(cli: Cli, trained: Path, pictures: Path) -> None:
    def drawn(seed: int) -> str:
        return cli("generate --temperature 2", str(trained), str(pictures / "b.png"), "--seed", str(seed)).out

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere.png",), "no picture 'nowhere.png'"),
        (("{pictures}", "--output", "captoin"), "the run has no output 'captoin'"),
        (("{pictures}", "--with", "question"), "is not FIELD=TEXT"),
        (("{pictures}", "--with", "question=why?"), "question"),
        (("{pictures}", "--max-length", "500"), "max_length 500 is longer"),
        ((".",), "no pictures in"),
    ],
)
def test_generate_explains_mistakes(cli: Cli, trained: Path, pictures: Path, words: tuple[str, ...], says: str) -> None:
    result = cli("generate", str(trained), *(word.format(pictures=pictures) for word in words))
    assert result.code == 2
    assert says in result.err


def test_generate_chooses_among_a_table_s_texts_where_nothing_is_written(
    cli: Cli, pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "answers.txt"
    table.write_text("red\nblue\n", encoding="utf-8")
    smaller = [
        *TOWERS,
        "components.answerer.depth=1",
        "components.answerer.heads=4",
        "~outputs.answer",
        "outputs.ranked.top=2",
    ]
    data = [
        "data.questions={use: scenes, count: 8, size: 16, fields: {answers: answer}}",
        f"inputs.closed.table='{table}'",
    ]
    length = ["stages.finetune.length=1 steps", "stages.finetune.batch=2"]
    trained = cli("train tiny/blip tasks/ranked_vqa --no-track --out asked", *smaller, *data, *length)
    assert trained.code == 0, trained.err
    shown = ("generate asked", str(pictures / "b.png"), "--with", "question=what colour is it ?")
    assert cli(*shown).out.strip() in {"red", "blue"}
    assert cli(*shown, "--with", "closed=green").out.strip() == "green"
    assert cli(*shown, "--with", "closed=green", "--with", "closed=two").out.strip() in {"green", "two"}
    table.unlink()  # the list is part of the model
    assert cli(*shown).out.strip() in {"red", "blue"}
    (tmp_path / "others.txt").write_text("two\nthree\n", encoding="utf-8")
    changed = load("asked", overrides=["inputs.closed.table=others.txt"])
    assert changed.ranked(pictures / "b.png", "how many ?") in {"two", "three"}
    for words, says in (
        (("--beams", "3"), "output 'ranked' does not read 'beams'"),
        (("--with", "question=and this ?"), "only a table takes several"),
        (("--with", "answers=red"), "output 'ranked' does not read 'answers'"),
    ):
        refused = cli(*shown, *words)
        assert refused.code == 2
        assert says in refused.err


@pytest.mark.parametrize("command", ["evaluate", "generate", "track sync", "track look"])
def test_run_that_is_not_there_is_the_user_s_mistake(cli: Cli, command: str, pictures: Path) -> None:
    result = cli(command, "nowhere", *([str(pictures)] if command == "generate" else []))
    assert result.code == 2
    assert "no run 'nowhere'" in result.err


def test_run_that_was_not_tracked_has_nothing_to_send(cli: Cli, trained: Path) -> None:
    result = cli("track sync", str(trained))
    assert result.code == 2
    assert "was not tracked" in result.err


# --- verify -----------------------------------------------------------------------------------------------------


def test_verify_of_the_recorded_step_passes(cli: Cli, oracle: Callable[[str], Path]) -> None:
    folder = oracle("coca/pretrain")
    result = cli("verify --format open_clip_coca", str(folder))
    assert result.code == 0
    assert result.out.strip().endswith("the same numbers")
    output = json.loads(cli("verify --format open_clip_coca --json", str(folder)).out)
    assert output["passed"] is True


def test_verify_of_another_number_fails_and_names_it(cli: Cli, oracle: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = oracle("coca/pretrain")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    outputs = copy / "outputs.safetensors"
    tensors = load_file(outputs)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name] = tensors[name] + 1
    save_file(tensors, outputs)
    result = cli("verify --format open_clip_coca", str(copy))
    assert result.code == 1
    assert name in result.out
    assert result.out.strip().endswith("not the same")


def test_verify_of_a_folder_without_a_recording_is_a_mistake(cli: Cli, tmp_path: Path) -> None:
    result = cli("verify --format open_clip_coca", str(tmp_path))
    assert result.code == 2
    assert "no file" in result.err

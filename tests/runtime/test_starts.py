"""A run starts only when it can: what is wrong with any stage is told before the first step, and leaves no folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.runtime.training.stage_run import StageRun

Small = Callable[..., Blueprint]
SHORT = ("data.pairs={use: scenes, size: 16, count: 40}", "stages.pretrain.batch=8", "stages.pretrain.length=2 steps")
SECOND = "+stages.second={data: more, losses: [captioning], length: 2 steps, batch: 4}"


def refusals(small_coca: Small, out: Path, *overrides: str) -> list[tuple[str, str]]:
    """What `train` refuses, as (text under the carets, message); no folder is left."""
    given = {override.split("=")[0] for override in overrides}
    blueprint = small_coca(*(setting for setting in SHORT if setting.split("=")[0] not in given), *overrides)
    with pytest.raises(BlueprintError) as error:
        blueprint.train(out=out, track=False)
    assert not out.exists()
    lines = blueprint.document.lines()
    actual = []
    for problem in error.value.problems:
        assert problem.span is not None, problem
        line = lines[problem.span.file][problem.span.line - 1]
        actual.append((line[problem.span.column - 1 : problem.span.end_column - 1], problem.message))
    return actual


@pytest.mark.parametrize(
    ("overrides", "place", "message"),
    [
        (["data.pairs={use: jsonl, path: nope.jsonl}"], "nope.jsonl", "no file 'nope.jsonl'"),
        (["data.pairs={use: jsonl, path: ~/nope.jsonl}"], "~/nope.jsonl", "no file '~/nope.jsonl'"),
        (["inputs.caption.from=text"], "text", "input 'caption' reads the field 'text', which the records do not have"),
        (["stages.pretrain.batch=41"], "41", "a step takes 41 records, and the source has 40"),
        (["components.bpe.file=nope.json"], "nope.json", "no vocabulary file 'nope.json'"),
        (["start=[{from: nope.safetensors}]"], "{from: nope.safetensors}", "no file 'nope.safetensors'"),
        (["start=[{new: ['vision.**']}, {from: nope.safetensors}]"], "{from: nope.safetensors}",
         "no file 'nope.safetensors'"),
        (["stages.pretrain.evaluate={every: 1 epoch, tasks: [grounding]}"], "{every: 1 epoch, tasks: [grounding]}",
         "grounding asks for an output of the form `relevance`"),
        (["stages.pretrain.evaluate={every: 1 epoch, zero_shot: {classes: none.txt}}"],
         "{every: 1 epoch, zero_shot: {classes: none.txt}}", "no file 'none.txt'"),
        ([SECOND, "+data.more={use: csv, path: none.csv}"], "none.csv", "no file 'none.csv'"),
        ([SECOND, "+data.more={use: scenes, size: 16, count: 3}"], "4", "a step takes 4 records, and the source has 3"),
        ([SECOND, "+data.more={mix: {pairs: 1, third: 1}}", "+data.third={use: folder, path: none}"], "more",
         "no folder 'none' of pictures"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_a_run_begins(
    small_coca: Small, tmp_path: Path, overrides: list[str], place: str, message: str
) -> None:
    ((where, text),) = refusals(small_coca, tmp_path / "run", *overrides)
    assert place in where
    assert text.replace(f"{Path.cwd()}/", "").startswith(message)


def test_a_source_without_the_modality_is_told_with_whose_records_they_are(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"caption": "a red dog"}\n' * 40)
    for name, source in (("tiny/vlmo", "pictures"), ("tiny/beit3", "pictures")):
        change = f"data.{source}={{use: jsonl, path: '{tmp_path / 'texts.jsonl'}'}}"
        with pytest.raises(BlueprintError, match="reads the field 'image', which the records do not have") as error:
            Blueprint.load(name, overrides=[change]).train(out=tmp_path / "run", track=False)
        (problem,) = error.value.problems
        ((remark, place),) = problem.related
        assert remark == f"these are the records of `{source}`" and place.file == "command line"


def test_everything_is_told_at_once_of_all_stages(small_coca: Small, tmp_path: Path) -> None:
    overrides = [SECOND, "+data.more={use: csv, path: none.csv}", "start=[{from: nope.pt}]", "stages.pretrain.batch=41"]
    messages = {
        message.replace(f"{Path.cwd()}/", "") for _, message in refusals(small_coca, tmp_path / "run", *overrides)
    }
    assert messages == {
        "no file 'none.csv'", "no file 'nope.pt'", "a step takes 41 records, and the source has 40",
    }  # fmt: skip


class Broken(Exception):
    """Something that nobody foresaw."""


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(
    small_coca: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: StageRun) -> None:
        raise Broken

    monkeypatch.setattr(StageRun, "__post_init__", fail)
    with pytest.raises(Broken):
        small_coca(*SHORT).train(out=tmp_path / "run", track=False)
    assert not (tmp_path / "run").exists()


def test_a_run_that_began_keeps_its_folder(small_coca: Small, tmp_path: Path) -> None:
    class Stops(Silent):
        def stage(self, name: str, first: int, last: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_coca(*SHORT).train(out=tmp_path / "run", track=False, listener=Stops())
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_pass_that_does_not_exist_is_told_before_a_run_begins(small_coca: Small, tmp_path: Path) -> None:
    from compose_vlp.runtime.training.trainer import TrainOptions

    with pytest.raises(UserError, match="no pass"):
        small_coca(*SHORT).train(out=tmp_path / "run", track=False, options=TrainOptions(without=("rowz",)))
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_the_weights_that_it_began_from(small_coca: Small, tmp_path: Path) -> None:
    first = small_coca(*SHORT).train(out=tmp_path / "first", track=False)
    blueprint = small_coca(*SHORT, f"start=[{{from: '{first.folder.path}'}}]")
    second = blueprint.train(out=tmp_path / "second", track=False)
    (tmp_path / "first").rename(tmp_path / "gone")
    resumed = Blueprint.load(second.folder.path / "blueprint.yaml").train(
        out=tmp_path / "second", track=False, resume=True
    )
    assert resumed.folder.info.status == "FINISHED"

"""Asking outputs: by fields of records however many inputs they fill, with tables, and in every form of an argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compose_vlp.api import Blueprint
from compose_vlp.capfilt.captioner import Captioner
from compose_vlp.capfilt.judges import judge_of
from compose_vlp.data.source import open_source
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.evaluation.explaining import explain
from compose_vlp.evaluation.results import evaluate
from compose_vlp.run import Output
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.state.finished import finished_model
from compose_vlp.runtime.training.trainer import TrainOptions
from compose_vlp.serving import Served
from tests.models import TINY, TOWERS, tiny
from tests.support import assert_near

LARGE = """\
extends: tiny/NAME
inputs:
  image: {view: shared}
  large: {type: image, like: image, size: 24, from: image, view: shared}
components:
  wide: {use: vit, width: 32, depth: 1, heads: 4, patch: 8}
graph:
  v: join(vision=previous, large=wide(large))
"""
"""One picture in two sizes, each through a tower of its own."""
TEXTS = ["a red circle", "two blue stars", "a small square"]


def two_sizes(folder: Path, name: str, *overrides: str) -> Asker:
    file = folder / f"{name}.yaml"
    file.write_text(LARGE.replace("NAME", name), encoding="utf-8")
    return tiny(str(file), overrides=overrides)


@pytest.fixture(scope="module")
def albef(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    where = "+outputs.where={relevance: matched, to: v, through: fusion, layer: 0}"
    return two_sizes(tmp_path_factory.mktemp("albef"), "albef", where)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    return two_sizes(tmp_path_factory.mktemp("blip"), "blip")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("asked") / "some.png"
    pixels = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def output(asker: Asker, name: str) -> Output:
    return Output(asker, name)


# --- one field, two inputs ------------------------------------------------------------------------------------------


def test_one_picture_fills_every_input_of_its_field_each_at_its_own_size(albef: Asker, picture: Path) -> None:
    assert albef.inputs_read("match") == ("image", "large", "caption")
    assert albef.fields_read("match") == {"image": ("image", "large"), "caption": ("caption",)}
    batch = albef.batch("match", {"image": [picture], "caption": ["a red circle"]})
    assert batch is not None
    assert (batch["image"].pixels.shape[-1], batch["large"].pixels.shape[-1]) == (16, 24)


def test_every_way_of_asking_takes_the_field(albef: Asker, blip: Asker, picture: Path) -> None:
    source = open_source({"use": "scenes", "count": 12, "size": 32})
    actual = evaluate(albef, source, ("retrieval", "reranking"), 8)
    assert set(actual.tasks) == {"retrieval", "reranking"}
    assert output(albef, "match")(picture, "a red circle").shape == (2,)
    assert output(albef, "where")(picture, "a red circle").shape == (2, 2)
    assert explain(albef, picture, "a red circle").heat.shape == (2, 2)
    assert isinstance(output(blip, "caption")(picture, max_length=5), str)
    captioner, judge = Captioner.of(blip, "run"), judge_of(albef, "run")
    read = captioner.read({"image": picture})
    assert len(captioner.write([read], 1, 0, 0)) == 1
    scores = judge.scores([judge.read({"image": picture})], [TEXTS])
    one_by_one = [float(output(albef, "match")(picture, text)[1]) for text in TEXTS]
    assert scores[0] == pytest.approx(one_by_one, rel=1e-4)


def test_a_run_of_two_sizes_is_trained_loaded_and_served_by_one_field(tmp_path: Path, picture: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(LARGE.replace("NAME", "blip"), encoding="utf-8")
    short = ["stages.pretrain.length=1 steps", "stages.pretrain.batch=4", "data.pairs.count=8", "data.pairs.size=16"]
    blueprint = Blueprint.load(file, overrides=[*TINY, *short])
    run = blueprint.train(out=tmp_path / "run", options=TrainOptions(device="cpu"), track=False)
    text = run.caption(picture, max_length=6)
    assert isinstance(text, str)
    model = finished_model(run.blueprint, run.folder)
    assert model is not None
    assert model.inputs == {"image": "string", "caption": "string"}
    served = Served(run, model.output)
    settings = {"settings": '{"max_length": 6}'}
    assert served.predict({"image": [picture.read_bytes()]}, settings) == [text]
    (shares,) = served.predict({"image": [picture.read_bytes()], "caption": ["a star"]}, {"output": "match"})
    assert sum(shares) == pytest.approx(1)


def test_an_input_s_name_is_no_field(albef: Asker, picture: Path) -> None:
    with pytest.raises(UserError, match="output 'match' does not read 'large'") as refused:
        output(albef, "match")(large=picture, caption="a red circle")
    assert refused.value.problems[0].hints == ("input `large` is made of the record's field: give `image`",)


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    """ALBEF with two outputs over a table of classes."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "classes.txt").write_text("circle\nstar\nsquare\n", encoding="utf-8")
    (folder / "templates.txt").write_text("a {}\na picture of a {}\n", encoding="utf-8")
    files = f"table: '{folder / 'classes.txt'}', templates: '{folder / 'templates.txt'}'"
    overrides = [
        f"+inputs.classes={{type: text, like: caption, {files}}}",
        "+graph.of_class=normalize(average(text_embedding(caption=classes), owner=classes.owner))",
        "+components.near={use: similarity, temperature: 0.1}",
        "+outputs.class=softmax(near(image_embedding, of_class))",
        "+outputs.of_class=of_class",
    ]
    return tiny("tiny/albef", overrides=overrides)


def test_classes_of_a_table_are_asked_by_the_picture_alone(tables: Asker, picture: Path) -> None:
    shares = output(tables, "class")(picture)
    assert shares.shape == (3,) and float(shares.sum()) == pytest.approx(1)
    assert tables.fields_read("class") == {"image": ("image",)}
    assert output(tables, "class")([picture, picture]).shape == (2, 3)
    vectors = output(tables, "of_class")()
    assert vectors.shape == (3, 24)
    assert_near(vectors.norm(dim=1), torch.ones(3))


def test_a_list_of_texts_stands_in_a_table_s_place(tables: Asker, picture: Path) -> None:
    own = output(tables, "class")(picture, classes=["star", "circle", "square", "ring"])
    assert own.shape == (4,)
    same = output(tables, "class")(picture, classes=["star", "circle", "square"])
    assert_near(same, output(tables, "class")(picture)[[1, 0, 2]])


@pytest.mark.parametrize("given", ["star", [], [" "], [1]])
def test_what_is_no_list_of_texts_does_not_stand_in_a_table_s_place(tables: Asker, picture: Path, given: Any) -> None:
    with pytest.raises(UserError, match="classes is a table: a list of texts can stand in its place"):
        output(tables, "class")(picture, classes=given)


def test_what_an_output_does_not_read_is_refused(tables: Asker, picture: Path) -> None:
    for name, value in {"caption": "a star", "beams": 3}.items():
        with pytest.raises(UserError, match=f"output 'class' does not read '{name}'"):
            output(tables, "class")(picture, **{name: value})


@pytest.fixture(scope="module", params=["tiny/albef", "tiny/blip"])
def ranked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asker:
    table = tmp_path_factory.mktemp("answers") / "answers.txt"
    table.write_text("red\nblue\ntwo\n", encoding="utf-8")
    small = ["components.answerer.depth=1", "components.answerer.heads=4", "data.questions={use: scenes}"]
    small += ["outputs.ranked.top=3"]
    names = (request.param, "tasks/ranked_vqa")
    return tiny(*names, small=TOWERS, overrides=[*small, f"inputs.closed.table='{table}'"])


def test_ranked_texts_are_asked_like_written_ones(ranked: Asker, picture: Path) -> None:
    answer = output(ranked, "ranked")
    asked = "what colour is it ?"
    best = answer(picture, asked)
    assert best in {"red", "blue", "two"}
    assert answer([picture, picture], question=[asked, asked]) == [best, best]
    assert answer(picture, asked, closed=["green"]) == "green"
    assert answer(picture, asked, closed=["two", "blue", "red"]) == best
    with pytest.raises(UserError, match="output 'ranked' does not read 'answers'"):
        answer(picture, asked, answers="red")
    with pytest.raises(UserError, match="output 'ranked' does not read 'beams'"):
        answer(picture, asked, beams=3)


# --- forms of an argument -------------------------------------------------------------------------------------------


def test_a_picture_may_come_in_any_form(albef: Asker, picture: Path) -> None:
    embedding = output(albef, "image_embedding")
    opened = Image.open(picture)
    expected = embedding(picture)
    for given in (str(picture), picture.read_bytes(), opened, np.asarray(opened)):
        assert_near(embedding(given), expected)
    rows = torch.stack([expected, expected])
    for several in (
        [picture, str(picture)],
        (picture.read_bytes(), opened),
        np.stack([np.asarray(opened)] * 2),
        iter([picture, picture]),
        np.array([str(picture)] * 2),
    ):
        assert_near(embedding(several), rows)
    assert_near(embedding([picture]), rows[:1])


def test_of_nothing_nothing_is_said(albef: Asker, blip: Asker, ranked: Asker) -> None:
    assert output(blip, "caption")([]) == []
    assert output(ranked, "ranked")([], question=[]) == []
    assert output(albef, "image_embedding")([]).shape == (0, 24)
    assert output(albef, "where")([], []).shape[0] == 0


NO_PICTURES: list[Any] = [{"pixels": 3}, 3, None, b"", "nowhere.png", np.zeros((2, 2), dtype=np.complex64)]


@pytest.mark.parametrize("given", NO_PICTURES, ids=str)
def test_what_is_no_picture_is_the_caller_s_mistake(albef: Asker, given: Any) -> None:
    with pytest.raises(UserError, match="output 'image_embedding' cannot be asked: "):
        output(albef, "image_embedding")(given)


@pytest.mark.parametrize(
    ("values", "named", "says"),
    [
        (["a.png", "b", "c"], {}, "output 'match' reads image, caption; 3 values were given"),
        (["a.png"], {"image": "b.png"}, "image is given twice"),
        ([["a.png", "b.png"]], {"caption": ["a"]}, "lists of different lengths: image 2, caption 1"),
        ([[]], {"caption": ["a"]}, "lists of different lengths: image 0, caption 1"),
        ([[]], {}, "output 'match' needs caption"),
        (["a.png"], {"captoin": "a"}, "output 'match' does not read 'captoin'"),
    ],
)
def test_arguments_that_do_not_fit_are_told(albef: Asker, values: Any, named: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        output(albef, "match")(*values, **named)


# --- before any work ------------------------------------------------------------------------------------------------


def test_a_prompt_that_fills_the_length_is_found_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asker = tiny("tiny/blip", "tiny/tasks/captioning", small=TOWERS)
    asker.check()
    monkeypatch.setattr(asker.model.student.vision, "forward", None)
    with pytest.raises(UserError, match="max_length 4 leaves no word to foretell: texts begin with 4 tokens"):
        output(asker, "caption")("nowhere.png", max_length=4)


PROMPTED = ("tiny/blip", "tiny/tasks/captioning")


def test_a_prompt_as_long_as_a_text_may_be_is_found_by_check() -> None:
    for override in ("outputs.caption.max_length=4", "inputs.caption.max_length=4"):
        shorter = ["outputs.caption.min_length=0", "outputs.caption.max_length=4", override]
        with pytest.raises(BlueprintError) as refused:
            Blueprint.load(*PROMPTED, overrides=list(dict.fromkeys(shorter))).check()
        (problem,) = refused.value.problems
        assert problem.message == "max_length 4 leaves no word to write: texts begin with 4 tokens or more"
        assert problem.related[0][0] == "the prompt is put in here"


def test_a_prompt_of_more_tokens_than_words_is_found_before_training(tmp_path: Path) -> None:
    """How many tokens a rare word has, only the trained tokenizer tells."""
    prompt = '"hippopotamuses and xylophones of"'
    overrides = [
        *TOWERS,
        f"prompted=logits(caption=prompt({prompt}, caption))",
        "outputs.caption.max_length=8",
        "stages.finetune.length=1 steps",
        "stages.finetune.batch=4",
        "data.captions={use: scenes, count: 20, size: 16}",
    ]
    blueprint = Blueprint.load(*PROMPTED, overrides=overrides)
    blueprint.check()
    with pytest.raises(UserError, match="output 'caption': max_length 8 leaves no word to foretell"):
        blueprint.train(out=tmp_path / "run", options=TrainOptions(device="cpu"), track=False)


def test_texts_and_labels_of_one_field_are_read_by_every_input(tmp_path: Path) -> None:
    """A caption in two lengths: both inputs of the one text that is given."""
    overrides = [
        "+inputs.short={type: text, like: caption, from: caption, max_length: 4}",
        "+graph.both=average([text_embedding, text_embedding(caption=short)])",
    ]
    asker = tiny("tiny/albef", overrides=[*overrides, "+outputs.both=both"])
    assert asker.fields_read("both") == {"caption": ("caption", "short")}
    whole, short = "a red circle and a blue star", "a red circle"
    actual = output(asker, "both")(whole)
    towers = [output(asker, "text_embedding")(text) for text in (whole, short)]
    assert_near(actual, sum(towers, start=torch.zeros(24)) / 2)

"""Tasks on models whose outputs are known: what counts as right, what is left out, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import ZeroShot
from compose_vlp.compiler.model import build
from compose_vlp.data.source import BadRecord, ClassNumber
from compose_vlp.errors import UserError
from compose_vlp.evaluation.captioning import evaluate_captioning
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import evaluate, possible_tasks, ready
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.evaluation.zero_shot import TEMPLATES, evaluate_zero_shot
from compose_vlp.runtime.inference.outputs import NO_TABLES, Asker, Tables
from tests.records import Given

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def picture(colour: str) -> Any:
    return np.full((8, 8, 3), COLOURS[colour], np.uint8)


class Seer(Asker):
    """Embeds pictures by their mean colour, and texts by the first colour that they name (white, if none)."""

    def value_of_batch(self, output: str, batch: Mapping[str, Any], tables: Tables = NO_TABLES) -> Tensor:
        if output == "image_embedding":
            return batch["image"].pixels.mean((2, 3)) + 1e-3
        names = [self.tokenizers["bpe"].decode(ids) for ids in batch["caption"].ids.tolist()]
        first = [next((word for word in name.split() if word in COLOURS), "white") for name in names]
        return torch.tensor([COLOURS[name] for name in first]) / 127.5 - 1 + 1e-3


@pytest.fixture(scope="module")
def seer(small_coca: Callable[..., Blueprint]) -> Seer:
    """A model that is right wherever its texts name colours."""
    checked = small_coca("inputs.image.size=16").check()
    bpe = checked.components["bpe"].kind.implementation(checked.components["bpe"].config)
    bpe.train(["a red green blue white square photo of the picture an image"] * 3)
    return Seer(checked, build(checked, torch.device("cpu")), {"bpe": bpe}, torch.device("cpu"))


# --- retrieval ----------------------------------------------------------------------------------------------------


def test_each_of_several_captions_asks_and_any_of_them_answers(seer: Seer) -> None:
    source = Given(
        [
            {"image": picture("red"), "caption": ["a red square", "the blue photo"]},  # the second is wrong
            {"image": picture("blue"), "caption": "a blue square"},
        ]
    )
    actual = evaluate_retrieval(seer, source)
    assert (actual.recall.images, actual.recall.texts) == (2, 3)
    assert actual.recall.image_to_text[1] == 0.5  # the blue picture cannot tell its text from the wrong one
    assert actual.recall.text_to_image[1] == pytest.approx(2 / 3)
    assert actual.captions == (("a red square", "the blue photo"), ("a blue square",))
    assert actual.first[0] == "a red square" and actual.right == (True, False)


def test_a_record_without_a_text_or_a_picture_is_left_out(seer: Seer) -> None:
    good = [{"image": picture(name), "caption": f"a {name} square"} for name in ("red", "blue", "green")] * 8
    bad: list[Any] = [
        {"image": picture("red"), "caption": []},
        {"image": picture("red"), "caption": "  "},
        BadRecord("torn"),
    ]
    ticks: list[int] = []
    actual = evaluate_retrieval(seer, Given([*good[:3], bad[0], bad[1], *good[3:], bad[2]]), tick=ticks.append)
    assert len(actual.rows) == 24 and not {3, 4, 26} & set(actual.rows)
    assert actual.recall.image_to_text[1] == 1.0 == actual.recall.text_to_image[1]
    assert actual.recall.chance == pytest.approx(1 / 3), "texts that repeat are right for all their pictures"
    assert ticks[-1] == 26


def test_no_text_at_all_is_said(seer: Seer) -> None:
    with pytest.raises(UserError, match="none of the first 1000 records has a text in its field 'caption'"):
        evaluate_retrieval(seer, Given([{"image": picture("red"), "caption": ""}] * 4))


# --- captioning ---------------------------------------------------------------------------------------------------


def test_all_captions_of_a_record_are_references(seer: Seer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seer, "texts_of_batch", lambda *_, **__: ["a red square", "a blue square", "a red square"])
    source = Given(
        [
            {"image": picture("red"), "caption": ["the picture of a house", "A red square."]},
            {"image": picture("blue"), "caption": "a blue square"},
            {"image": picture("red"), "caption": []},
        ]
    )
    actual = evaluate_captioning(seer, source)
    assert actual.rows == (0, 1), "without a text there is nothing to hold a caption against"
    assert actual.scores.exact == 1 and actual.scores.distinct == 1
    assert actual.as_json()["said"][0]["references"] == ["the picture of a house", "A red square."]


# --- zero-shot ----------------------------------------------------------------------------------------------------


def labelled(*names: Any, field: str = "label") -> Given:
    """A picture of each colour, labelled with it; a pair is the picture's colour and its label."""
    pairs = [name if isinstance(name, tuple) else (name, name) for name in names]
    return Given([{"image": picture(shown), field: label} for shown, label in pairs])


def test_classes_are_those_of_the_data_and_the_nearest_text_wins(seer: Seer) -> None:
    actual = evaluate_zero_shot(seer, labelled("red", "green", "blue", ("red", "blue"), "red"))
    assert actual.classes == ("blue", "green", "red")
    assert actual.top == {1: pytest.approx(0.8)}, "no top-5 among three classes"
    assert actual.per_class == {"blue": 0.5, "green": 1.0, "red": 1.0}
    assert actual.mean_of_classes == pytest.approx(2.5 / 3)
    assert actual.mistaken() == [("blue", "red", 1)]
    assert actual.chance == pytest.approx(1 / 3) and actual.commonest == pytest.approx(0.4)
    assert actual.templates == TEMPLATES


def test_numbers_are_places_in_the_named_classes(seer: Seer) -> None:
    classes = ("red", "green", "blue", "white", "square", "photo", "picture")
    actual = evaluate_zero_shot(
        seer, labelled(("red", 0), ("blue", 2), ("green", 3)), settings=ZeroShot(classes=classes)
    )
    assert actual.top[1] == pytest.approx(2 / 3)
    assert actual.top[5] == 1.0
    assert actual.per_class == {"red": 1.0, "blue": 1.0, "white": 0.0}, "classes without records have no accuracy"


def test_two_classes_of_one_name_are_told_apart_by_their_numbers(seer: Seer) -> None:
    asked = ZeroShot(classes=("red", "missile", "blue", "missile"))
    actual = evaluate_zero_shot(seer, labelled(("red", 0), ("blue", "2"), ("blue", 3), ("red", 1)), settings=asked)
    assert actual.classes == ("red", "missile (1)", "blue", "missile (3)")
    assert actual.per_class == {"red": 1.0, "missile (1)": 0.0, "blue": 1.0, "missile (3)": 0.0}


def test_a_data_sets_own_names_of_classes_are_taken(seer: Seer) -> None:
    names = ("green", "red", "blue")
    source = labelled(*((names[number], ClassNumber.of(number, names)) for number in range(3)))
    assert evaluate_zero_shot(seer, source).classes == names
    asked = ZeroShot(classes=("red", "green", "blue"))
    assert evaluate_zero_shot(seer, source, settings=asked).top[1] == 1.0, "by name, whatever the numbers are"


def test_a_class_is_the_normalised_mean_of_its_normalised_texts(seer: Seer, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"red a": (4.0, 0.0, 0.0), "red b": (0.0, 1.0, 0.0), "blue a": (0.0, 0.0, 9.0), "blue b": (0.0, 0.0, 1.0)}

    def embed(self: Seer, output: str, batch: Mapping[str, Any]) -> Tensor:
        if output == "image_embedding":
            return torch.tensor([[0.1, 0.8, 0.62]]).expand(batch["image"].pixels.shape[0], -1)
        texts = [" ".join(self.tokenizers["bpe"].decode(ids).split()) for ids in batch["caption"].ids.tolist()]
        return torch.tensor([vectors[text] for text in texts])

    monkeypatch.setattr(Seer, "value_of_batch", embed)
    asked = ZeroShot(classes=("red", "blue"), templates=("{} a", "{} b"))
    # (1, 1, 0) / sqrt 2 is nearer to the picture than (0, 0, 1); (4, 1, 0), the mean of texts as they are, is not
    assert evaluate_zero_shot(seer, labelled(("red", "red")), settings=asked).top[1] == 1.0


def test_lists_come_from_files_too(seer: Seer, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red\nblue\n\n", encoding="utf-8")
    (tmp_path / "templates.txt").write_text("a {} square\n", encoding="utf-8")
    asked = ZeroShot(label="colour", classes=str(tmp_path / "classes.txt"), templates=str(tmp_path / "templates.txt"))
    actual = evaluate_zero_shot(seer, labelled("red", "blue", ("red", None), field="colour"), settings=asked)
    assert actual.top[1] == 1.0 and actual.templates == ("a {} square",)
    assert len(actual.rows) == 2, "a record without a class is left out"


@pytest.mark.parametrize(
    ("source", "asked", "says"),
    [
        (labelled("red", ("blue", "bleu")), {"classes": ("red", "blue")}, "record 1: label is 'bleu'"),
        (labelled("red", ("blue", 7)), {"classes": ("red", "blue")}, "record 1: label is 7"),
        (labelled(("red", 0), ("blue", 1)), {}, "a number has no name"),
        (labelled("red", "red"), {}, "only one class: 'red'"),
        (labelled("red"), {"classes": ("red", "red")}, "'red', the name of the classes 0 and 1"),
        (labelled("red", "blue"), {"label": "kind"}, "no class in a field 'kind'"),
        (labelled("red", "blue"), {"label": "kind", "classes": ("red", "blue")}, "a class in its field 'kind'"),
        (labelled("red", "blue"), {"templates": ("a photo",)}, "template 'a photo' has no {}"),
        (labelled("red", "blue"), {"classes": "nowhere.txt"}, "no file 'nowhere.txt'"),
    ],
)
def test_classes_that_cannot_be_known_are_said(seer: Seer, source: Given, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        evaluate_zero_shot(seer, source, settings=ZeroShot(**asked))


# --- all together -------------------------------------------------------------------------------------------------


def test_zero_shot_is_possible_where_records_have_a_class(seer: Seer) -> None:
    assert possible_tasks(seer, labelled("red", field="colour")) == ("retrieval", "captioning")
    assert possible_tasks(seer, labelled("red", "blue")) == ("retrieval", "captioning", "zero_shot")
    assert possible_tasks(seer, labelled("red", "red")) == ("retrieval", "captioning"), "one class is none to tell"
    assert "zero_shot" in possible_tasks(seer, labelled("red", field="colour"), ZeroShot(label="colour"))


def test_a_stage_s_wish_is_looked_over_before_and_measured_at_each_call(seer: Seer) -> None:
    from compose_vlp.blueprint.scalars import Quantity
    from compose_vlp.blueprint.sections import Evaluate

    every = Quantity(1, "epochs")
    measure = ready(seer, labelled("red", "blue"), Evaluate(every=every, tasks=("zero_shot",), count=2))
    assert (
        measure().scores
        == measure().scores
        == {
            "zero_shot.accuracy_top_1": 1.0,
            "zero_shot.accuracy_mean_of_classes": 1.0,
        }
    )
    with pytest.raises(UserError, match="no class in a field"):
        ready(seer, labelled("red", field="colour"), Evaluate(every=every, tasks=("zero_shot",)))


def test_the_page_shows_right_and_wrong_examples_of_every_task(seer: Seer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seer, "texts_of_batch", lambda *_, **__: ["a red square", "a <b> square"])
    source = Given(
        [
            {"image": picture("red"), "caption": "a red square", "label": "red"},
            {"image": picture("red"), "caption": "a blue square", "label": "blue"},
        ]
    )
    results = evaluate(seer, source, ("retrieval", "captioning", "zero_shot"), 2)
    page = page_of(results, seer, source, title="run", subtitle="two")
    assert page.count("<figure>") == 6
    assert page.count('class="said right"') == 3 and page.count('class="said wrong"') == 2
    assert "a &lt;b&gt; square" in page and "a <b> square" not in page
    for words in ("chance 50.0 %", "What is taken for what", "The first text for a picture", "CIDEr-D"):
        assert words in page
    assert set(results.as_json()) == {"records", "scores", "retrieval", "captioning", "zero_shot"}


# --- numbers that are none ----------------------------------------------------------------------------------------


class Broken(Seer):
    """Gives nan for one picture."""

    def value_of_batch(self, output: str, batch: Mapping[str, Any], tables: Tables = NO_TABLES) -> Tensor:
        actual = super().value_of_batch(output, batch, tables)
        if output == "image_embedding":
            actual[0, 0] = torch.nan
        return actual


@pytest.mark.parametrize("task", ["retrieval", "zero_shot"])
def test_nan_is_no_score(seer: Seer, task: str) -> None:
    """Compared with nan no other score is higher, so that its rank would be the first."""
    broken = Broken(seer.blueprint, seer.model, seer.tokenizers, seer.device)
    source = Given([{"image": picture(name), "caption": f"a {name} square", "label": name} for name in COLOURS])
    with pytest.raises(UserError, match="1 of 12 numbers of output 'image_embedding' are nan or infinite"):
        evaluate(broken, source, (task,), 4)

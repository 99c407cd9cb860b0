"""Records become values: each type of input, what it refuses, and how a batch is laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data import BadRecord
from compose_vlp.data.collate import Collator
from compose_vlp.errors import UserError
from compose_vlp.values import Image, Index, Number, Text

IDS = Ids(Ids.Config(vocab_size=100, begin="1", end="2"))


def collator(train: bool = False, tokenizers: dict[str, Tokenizer] | None = None, **inputs: dict[str, Any]) -> Collator:
    typed = {name: parse_input(settings) for name, settings in inputs.items()}
    return Collator(typed, {"ids": IDS} if tokenizers is None else tokenizers, train=train)


def text(**settings: Any) -> dict[str, Any]:
    return {"type": "text", "tokenizer": "ids", "max_length": 8, **settings}


def batch(collate: Collator, *records: dict[str, Any]) -> dict[str, Any]:
    return collate.stack([collate.read(record, index=i) for i, record in enumerate(records)])


# --- pictures ---------------------------------------------------------------------------------------------------


def test_pictures_of_every_form_are_stacked(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), 255, np.uint8)
    Pictures.fromarray(pixels).save(tmp_path / "a.png")
    forms = [
        pixels,
        pixels[:4],
        pixels[..., 0],
        Pictures.fromarray(pixels),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
    ]
    image = batch(collator(image={"type": "image", "size": 8}), *({"image": form} for form in forms))["image"]
    assert isinstance(image, Image)
    assert torch.equal(image.pixels, torch.ones(6, 3, 8, 8))


def test_what_is_no_picture_is_a_bad_record(tmp_path: Path) -> None:
    collate = collator(image={"type": "image", "size": 8})
    with pytest.raises(BadRecord, match="image is None, not a picture"):
        collate.read({"image": None})
    with pytest.raises(BadRecord, match=r"missing\.png"):
        collate.read({"image": tmp_path / "missing.png"})


def test_two_inputs_of_one_view_see_the_same_part_and_others_do_not() -> None:
    augment = {"crop": (0.1, 0.3), "flip": 0.5, "jitter": 0.4}
    small = {"type": "image", "size": 16, "from": "image", "augment": augment}
    collate = collator(train=True, low={**small, "view": "a"}, high={**small, "view": "a"}, other=small)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for index in range(5):
        low, high, other = collate.read({"image": picture}, epoch=1, index=index)
        assert np.array_equal(low, high)
        assert not np.array_equal(low, other)


def test_augmentation_belongs_to_seed_epoch_and_record() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    inputs = {"image": parse_input({"type": "image", "size": 16, "augment": {"crop": (0.1, 0.3)}})}
    drawn = {
        key: Collator(inputs, {}, seed=key[0], train=True).read({"image": picture}, key[1], key[2])[0].tobytes()
        for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(set(drawn.values())) == 4
    again = Collator(inputs, {}, seed=0, train=True).read({"image": picture}, 0, 1)[0].tobytes()
    assert again == drawn[0, 0, 1]


# --- texts ------------------------------------------------------------------------------------------------------


def test_texts_are_trimmed_to_the_longest_and_keep_their_frame() -> None:
    value = batch(collator(caption=text()), {"caption": "5 6 7"}, {"caption": "8"})["caption"]
    assert isinstance(value, Text)
    assert value.ids.tolist() == [[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]
    assert value.lengths.tolist() == [5, 3]
    assert (value.frame, value.pad) == (8, 0)
    assert value.valid.sum(1).tolist() == [5, 3]


@pytest.mark.parametrize(
    ("settings", "words", "width"),
    [({"spare": 1}, "5 6", 5), ({"spare": 9}, "5 6", 8), ({"pad": "frame"}, "5", 8), ({}, "5 " * 50, 8)],
)
def test_width_of_a_batch(settings: dict[str, Any], words: str, width: int) -> None:
    value = batch(collator(caption=text(**settings)), {"caption": words})["caption"]
    assert value.ids.shape == (1, width)
    assert value.ids[0, value.lengths[0] - 1] == 2, "the end token is never cut"


def test_one_of_several_captions_is_drawn_in_training_and_the_first_taken_elsewhere() -> None:
    record = {"caption": ["5", "6", "7"]}
    still, drawn = collator(caption=text()), collator(train=True, caption=text())
    assert {tuple(still.read(record, epoch=e)[0]) for e in range(20)} == {(1, 5, 2)}
    assert {drawn.read(record, epoch=e)[0][1] for e in range(40)} == {5, 6, 7}
    assert drawn.read(record, epoch=3) == drawn.read(record, epoch=3)


@pytest.mark.parametrize("caption", ["", "  \n ", [], None, 7, [3], ["", "5"]])
def test_a_caption_that_is_empty_or_no_text_is_a_bad_record(caption: Any) -> None:
    with pytest.raises(BadRecord, match="caption is"):
        collator(caption=text()).read({"caption": caption})


def test_many_texts_have_rows_owners_and_weights() -> None:
    values = batch(
        collator(answers=text(many=True)),
        {"answers": ["5", "6", "5", "5"]},
        {"answers": "7 8"},
        {"answers": {"9": 0.3, "5": 1}},
    )
    assert values["answers"].ids.tolist() == [[1, 5, 2, 0], [1, 6, 2, 0], [1, 7, 8, 2], [1, 9, 2, 0], [1, 5, 2, 0]]
    assert isinstance(values["answers.owner"], Index)
    assert values["answers.owner"].rows.tolist() == [0, 0, 1, 2, 2]
    assert isinstance(values["answers.weight"], Number)
    assert values["answers.weight"].values.tolist() == pytest.approx([0.75, 0.25, 1.0, 0.3, 1.0])


@pytest.mark.parametrize("answers", [[], {}, None, 3, [3], {"5": "much"}, ["", "5"]])
def test_many_texts_that_are_none_are_a_bad_record(answers: Any) -> None:
    with pytest.raises(BadRecord, match="answers"):
        collator(answers=text(many=True)).read({"answers": answers})


def test_a_table_is_the_same_in_every_batch_and_owns_its_templates(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("5\n\n 6 \n")
    (tmp_path / "templates.txt").write_text("9 {}\n{} 9 9\n")
    table = text(table=str(tmp_path / "classes.txt"), templates=str(tmp_path / "templates.txt"))
    values = batch(collator(caption=text(), classes=table), {"caption": "5"})
    assert values["classes"].ids.tolist() == [[1, 9, 5, 2, 0], [1, 5, 9, 9, 2], [1, 9, 6, 2, 0], [1, 6, 9, 9, 2]]
    assert values["classes.owner"].rows.tolist() == [0, 0, 1, 1]


def test_mistakes_in_a_table_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("5")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, says in {"none.txt": "no file", "empty.txt": "is empty", "binary.txt": "no text in UTF-8"}.items():
        with pytest.raises(UserError, match=says):
            collator(classes=text(table=str(tmp_path / name)))
    with pytest.raises(UserError, match=r"'5' has no \{\}"):
        collator(classes=text(table=str(tmp_path / "a.txt"), templates=str(tmp_path / "a.txt")))


def test_an_unknown_tokenizer_offers_the_nearest() -> None:
    with pytest.raises(UserError, match="'idz', which is not there") as caught:
        collator(caption=text(tokenizer="idz"))
    assert "'ids'" in caught.value.problems[0].hints[0]


# --- numbers ----------------------------------------------------------------------------------------------------


def test_ids_labels_and_numbers() -> None:
    collate = collator(id={"type": "id"}, label={"type": "label", "classes": ("no", "yes")}, n={"type": "number"})
    values = batch(
        collate,
        {"id": "a", "label": "yes", "n": 1},
        {"id": 7, "label": 0, "n": 2.5},
        {"id": "a", "label": True, "n": 0},
    )
    assert values["id"].values.dtype == torch.int64
    assert values["id"].values[0] == values["id"].values[2] != values["id"].values[1] == 7
    assert values["label"].values.tolist() == [1, 0, 1]
    assert values["n"].values.tolist() == [1.0, 2.5, 0.0]
    assert values["n"].values.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"type": "id"}, 1.5),
        ({"type": "id"}, True),
        ({"type": "id"}, None),
        ({"type": "label"}, "yes"),
        ({"type": "label"}, -1),
        ({"type": "label", "classes": ("no", "yes")}, "maybe"),
        ({"type": "label", "classes": ("no", "yes")}, 2),
        ({"type": "number"}, "three"),
        ({"type": "number"}, True),
    ],
)
def test_other_values_are_bad_records(settings: dict[str, Any], value: Any) -> None:
    with pytest.raises(BadRecord, match="x is"):
        collator(x=settings).read({"x": value})


# --- records ----------------------------------------------------------------------------------------------------


def test_functions_are_called_once_and_only_where_an_input_reads_them() -> None:
    calls: list[str] = []

    def give(name: str, value: Any) -> Any:
        return lambda: calls.append(name) or value

    picture = np.zeros((8, 8, 3), np.uint8)
    record = {"image": give("image", picture), "caption": give("caption", "5"), "question": give("question", "6")}
    size = {"type": "image", "from": "image"}
    collator(caption=text(), a={**size, "size": 4}, b={**size, "size": 8}).read(record)
    assert sorted(calls) == ["caption", "image"]


def test_a_missing_field_is_a_bad_record_that_lists_those_there_are() -> None:
    with pytest.raises(BadRecord, match="no field 'caption'; there are image, sentence"):
        collator(caption=text()).read({"image": 1, "sentence": "5"})

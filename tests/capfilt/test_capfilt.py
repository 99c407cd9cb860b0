"""Captioning and filtering with tiny models: what is kept, where it stands, and that stopping changes nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compose_vlp.capfilt.captioner import Captioner
from compose_vlp.capfilt.judges import ByMatch, BySimilarity, Judge, judge_of
from compose_vlp.capfilt.settings import Settings, Shard
from compose_vlp.capfilt.work import Summary, capfilt
from compose_vlp.data import open_source
from compose_vlp.data.source import BadRecord, Encoded, Source
from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import tiny
from tests.records import Given

FEW = Settings(block=8)


@pytest.fixture(scope="module")
def blip() -> Asker:
    return tiny("tiny/blip")


@pytest.fixture(scope="module")
def web() -> Source:
    return open_source({"use": "scenes", "size": 16, "count": 20, "noise": 0.4})


class Colours(Judge):
    """Keeps the texts that name the colour of the picture."""

    by = "match"

    def _scores(self, pictures: dict[str, Any], rows: Sequence[int], texts: Sequence[list[Any]]) -> list[float]:
        bright = pictures["image"].pixels.mean((2, 3)).argmax(1).tolist()
        words = [self.asker.tokenizers["bert"].decode(item[0]) for item in texts]
        return [float(("red", "green", "blue")[bright[row]] in text) for row, text in zip(rows, words, strict=True)]


class Said(Captioner):
    """Says the same of every picture."""

    def write(self, items: Sequence[list[Any]], seed: int, first: int, number: int) -> list[str]:
        return ["a red circle " if number == 0 else "a green star"] * len(items)


def plain(colour: str) -> Any:
    place = ("red", "green", "blue").index(colour)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., place] = 255
    return pixels


def run(
    out: Path, source: Source, judge: Judge, captioner: Captioner | None, settings: Settings = FEW, **more: Any
) -> Summary:
    return capfilt(source, judge, captioner, out, settings, described={"use": "test"}, **more)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


# --- what is kept -------------------------------------------------------------------------------------------------


@pytest.fixture
def captioner(blip: Asker) -> Captioner:
    return Said(blip, "writer/step", "caption", "image")


@pytest.fixture
def judge(blip: Asker) -> Judge:
    return Colours(blip, "judge/step", "image", "caption", 0.5)


MIXED = Given(
    [
        {"id": "one", "image": plain("red"), "caption": "a red star"},
        {"id": 2, "image": plain("green"), "caption": ["a red star", "a green ring", "  "]},
        {"image": plain("blue"), "caption": "a photo"},
        {"image": plain("red"), "caption": "a red circle"},
        *[{"image": plain("blue"), "caption": "a photo"}] * 20,
        BadRecord("torn"),
    ]
)
"""Pictures of one colour; the captioner says of all that they are red."""


def test_texts_that_fit_are_kept_with_whence_they_are(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    actual = run(tmp_path, MIXED, judge, captioner)
    assert (actual.records, actual.broken, actual.pictures) == (25, 1, 3)
    assert (actual.web.judged, actual.web.kept) == (25, 3)
    assert (actual.synthetic.judged, actual.synthetic.kept) == (23, 1), (
        "a text that the picture has is not judged twice"
    )
    star, ring, circle = lines(tmp_path / "captions.jsonl")
    assert star["caption"] == ["a red star", "a red circle"] and star["id"] == "one"
    assert ring["caption"] == ["a green ring"] and ring["id"] == 2
    assert circle["caption"] == ["a red circle"] and circle["texts"][0]["origin"] == "web" and circle["record"] == 3
    web, synthetic = star["texts"]
    assert web == {"text": "a red star", "origin": "web", "score": 1.0, "run": None, "seed": None}
    assert synthetic == {"text": "a red circle", "origin": "synthetic", "score": 1.0, "run": "writer/step", "seed": 0}


def test_texts_that_do_not_fit_are_told_with_their_scores(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    run(tmp_path, MIXED, judge, captioner)
    judged = lines(tmp_path / "judged" / "000000.jsonl")
    assert [(text["text"], text["kept"]) for text in judged[1]["texts"]] == [
        ("a red star", False),
        ("a green ring", True),
        ("a red circle", False),
    ]
    assert "image" not in judged[2]
    assert lines(tmp_path / "judged" / "000003.jsonl")[-1] == {"record": 24, "broken": "torn"}


@pytest.mark.parametrize(("texts", "web", "synthetic"), [("web", 25, 0), ("synthetic", 0, 24)])
def test_one_kind_of_texts_alone(
    tmp_path: Path, judge: Judge, captioner: Captioner, texts: Any, web: int, synthetic: int
) -> None:
    actual = run(tmp_path, MIXED, judge, captioner if texts != "web" else None, replace(FEW, texts=texts))
    assert (actual.web.judged, actual.synthetic.judged) == (web, synthetic)


def test_several_texts_a_picture(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    run(tmp_path, MIXED, judge, captioner, replace(FEW, captions=2))
    assert lines(tmp_path / "captions.jsonl")[1]["caption"] == ["a green ring", "a green star"]


@pytest.mark.parametrize(("form", "settings"), [("jsonl", "captions.jsonl"), ("webdataset", "shards/*.tar")])
def test_what_comes_out_is_a_data_set(
    tmp_path: Path, judge: Judge, captioner: Captioner, form: Any, settings: str
) -> None:
    actual = run(tmp_path, MIXED, judge, captioner, replace(FEW, form=form))
    assert actual.data == tmp_path / settings
    more = {"cache": str(tmp_path / "cache")} if form == "webdataset" else {}
    source = open_source({"use": form, "path": str(actual.data), **more})
    assert [source.record(n)["caption"] for n in range(len(source))] == [
        ["a red star", "a red circle"],
        ["a green ring"],
        ["a red circle"],
    ]
    picture = source.record(1)["image"]
    picture = picture() if callable(picture) else picture
    shown = Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture.data))
    assert np.array_equal(np.asarray(shown), plain("green"))


def test_picture_files_are_copied_as_they_are(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    Image.fromarray(plain("red")).save(tmp_path / "a.JPG", quality=60)
    data = (tmp_path / "a.JPG").read_bytes()
    pictures = [tmp_path / "a.JPG", Encoded(data, "web.tar:b.jpeg"), Image.fromarray(plain("red")).convert("CMYK")]
    source = Given([{"image": picture, "caption": "a red ring"} for picture in pictures])
    run(tmp_path / "out", source, judge, captioner)
    first, second, third = (tmp_path / "out" / record["image"] for record in lines(tmp_path / "out" / "captions.jsonl"))
    assert first.suffix == ".jpg" and first.read_bytes() == data
    assert second.suffix == ".jpeg" and second.read_bytes() == data
    assert Image.open(third).mode == "RGB"


# --- stopped, shared, drawn ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, blip: Asker, web: Source) -> Path:
    """All of it in one go."""
    out = tmp_path_factory.mktemp("whole")
    run(out, web, judge_of(blip, "run", threshold=0.0), Captioner.of(blip, "run"))
    return out


def test_a_run_that_was_stopped_goes_on_and_comes_out_the_same(
    tmp_path: Path, blip: Asker, web: Source, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, captioner = judge_of(blip, "run", threshold=0.0), Captioner.of(blip, "run")
    drawn: list[int] = []
    write = Captioner.write

    def stopped(self: Captioner, items: Sequence[Any], seed: int, first: int, number: int) -> list[str]:
        if first == 8 and len(drawn) == 1:
            drawn.append(-1)
            raise KeyboardInterrupt
        drawn.append(first)
        return write(self, items, seed, first, number)

    monkeypatch.setattr(Captioner, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, web, judge, captioner)
    assert not (tmp_path / "captions.jsonl").exists()
    (tmp_path / "pictures" / "000001").mkdir(parents=True)
    (tmp_path / "pictures" / "000001" / "000000008.png").write_bytes(b"half")
    ticks: list[int] = []
    run(tmp_path, web, judge, captioner, tick=ticks.append)
    assert drawn == [0, -1, 8, 16], "the block that was done is not done again"
    assert ticks[0] == 8 and ticks[-1] == 20
    assert files(tmp_path) == files(whole)
    run(tmp_path, web, judge, captioner)
    assert len(drawn) == 4, "and done, nothing is left"


def test_two_processes_make_what_one_makes(tmp_path: Path, blip: Asker, web: Source, whole: Path) -> None:
    judge, captioner = judge_of(blip, "run", threshold=0.0), Captioner.of(blip, "run")
    half = run(tmp_path, web, judge, captioner, shard=Shard(1, 2))
    assert half.data is None and half.records == 8
    both = run(tmp_path, web, judge, captioner, shard=Shard(0, 2))
    assert both.data == tmp_path / "captions.jsonl" and both.records == 20
    assert files(tmp_path) == files(whole)


def test_another_seed_draws_other_texts(tmp_path: Path, blip: Asker, web: Source, whole: Path) -> None:
    settings = replace(FEW, texts="synthetic", seed=1)
    run(tmp_path, web, judge_of(blip, "run", threshold=0.0), Captioner.of(blip, "run"), settings)

    def drawn(folder: Path) -> list[str]:
        actual = [text for record in lines(folder / "captions.jsonl") for text in record["texts"]]
        return [text["text"] for text in actual if text["origin"] == "synthetic"]

    assert drawn(tmp_path) and set(drawn(tmp_path)) != set(drawn(whole))


def test_scores_are_those_of_the_outputs_alone(blip: Asker, web: Source, whole: Path) -> None:
    judged = lines(whole / "judged" / "000000.jsonl")[3]
    record = web.record(3)
    image = record["image"]()
    for text in judged["texts"]:
        match = blip.value("match", {"image": [image], "caption": [text["text"]]})[0, 1]
        assert text["score"] == pytest.approx(float(match), abs=1e-6)


def test_cosines_filter_where_a_model_has_no_matching_head(tmp_path: Path, web: Source) -> None:
    coca = tiny("tiny/coca", small=COCA)
    judge = judge_of(coca, "run", threshold=-1.0)
    assert isinstance(judge, BySimilarity)
    run(tmp_path, web, judge, Captioner.of(coca, "run"))
    judged = lines(tmp_path / "judged" / "000000.jsonl")[0]["texts"][0]
    image, text = (
        coca.value("image_embedding", {"image": [web.record(0)["image"]()]}),
        coca.value("text_embedding", {"caption": [judged["text"]]}),
    )
    assert judged["score"] == pytest.approx(float(image[0] @ text[0]), abs=1e-5)


COCA = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.vision.stem_depth=0",
    "components.*.width=32",
    "components.*.mlp_width=48",
    "components.image_proj.out=24",
    "components.text_proj.out=24",
    "components.bpe.vocab_size=320",
)

# --- mistakes -----------------------------------------------------------------------------------------------------


def test_going_on_with_other_settings_is_refused(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    run(tmp_path, MIXED, judge, captioner)
    with pytest.raises(UserError, match="was begun with other settings") as error:
        run(tmp_path, MIXED, judge, captioner, replace(FEW, seed=3))
    assert "seed: 0 there, 3 now" in error.value.problems[0].hints


def test_settings_may_be_mended_until_something_is_done(tmp_path: Path, blip: Asker, web: Source, judge: Judge) -> None:
    with pytest.raises(UserError, match="max_length 500 is longer"):
        run(tmp_path, web, judge, Captioner.of(blip, "run", search={"max_length": 500}))
    judge.threshold = 0.0
    assert run(tmp_path, web, judge, Captioner.of(blip, "run", search={"max_length": 6})).pictures == 20


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is in use"):
        run(tmp_path, MIXED, judge, captioner)


def test_a_part_that_another_process_does_is_refused(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    run(tmp_path, MIXED, judge, captioner)
    with (
        ProcessLock(tmp_path / "part-0-of-1.lock"),
        pytest.raises(UserError, match=r"another process does part 0/1"),
    ):
        run(tmp_path, MIXED, judge, captioner)


def test_a_filter_that_keeps_nothing_says_how_near_it_came(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    judge.threshold = 1.5
    with pytest.raises(UserError, match=r"no text was kept: none reaches the threshold 1\.5") as error:
        run(tmp_path, MIXED, judge, captioner)
    assert error.value.problems[0].hints == ("the highest score is 1.000",)


def test_a_source_of_broken_pictures_stops(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    source = Given([*MIXED.records[:2], *[{"image": f"gone/{n}.jpg", "caption": "a"} for n in range(30)]])
    with pytest.raises(UserError, match="records are broken, more than the limit of 5%"):
        run(tmp_path, source, judge, captioner)


def test_records_without_texts_need_synthetic_ones(tmp_path: Path, judge: Judge, captioner: Captioner) -> None:
    source = Given([{"image": plain("red")}] * 3)
    with pytest.raises(UserError, match="reads the field 'caption', which the records do not have"):
        run(tmp_path, source, judge, captioner)
    assert run(tmp_path, source, judge, captioner, replace(FEW, texts="synthetic")).synthetic.kept == 3


def test_a_model_that_writes_nothing_is_no_captioner() -> None:
    with pytest.raises(UserError, match="has no output that writes texts") as error:
        Captioner.of(tiny("tiny/albef"), "run")
    assert "`--texts web` filters the web's texts alone" in error.value.problems[0].hints


def test_the_output_that_writes_is_named_where_it_is_not_there(blip: Asker) -> None:
    with pytest.raises(UserError, match="has no output 'captoin' that writes texts") as error:
        Captioner.of(blip, "run", output="captoin")
    assert "`--output NAME` takes one of caption" in error.value.problems[0].hints


def test_cosines_need_a_threshold_and_a_match_has_one(blip: Asker) -> None:
    actual = judge_of(blip, "run")
    assert isinstance(actual, ByMatch) and actual.threshold == 0.5
    with pytest.raises(UserError, match="needs `--threshold`"):
        judge_of(blip, "run", by="similarity")


def test_a_match_that_is_not_there_is_said() -> None:
    with pytest.raises(UserError, match="has no output 'match'"):
        judge_of(tiny("tiny/coca", small=COCA), "run", by="match")


@pytest.mark.parametrize("written", ["2/2", "1", "a/2", "-1/2", "1/"])
def test_a_part_is_a_number_of_a_number(written: str) -> None:
    with pytest.raises(UserError, match="is no part of the work"):
        Shard.read(written)
    assert list(Shard.read("1/3").blocks(of=8)) == [1, 4, 7]

"""The same records are broken to all that read them: a survey, training, evaluation, capfilt, a model that is asked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compose_vlp.capfilt.captioner import Captioner
from compose_vlp.capfilt.judges import judge_of
from compose_vlp.capfilt.settings import Settings
from compose_vlp.capfilt.work import capfilt
from compose_vlp.data.collate import Collator
from compose_vlp.data.loader import Loader
from compose_vlp.data.survey import survey
from compose_vlp.errors import UserError
from compose_vlp.evaluation.captioning import evaluate_captioning
from compose_vlp.evaluation.report import page_of
from compose_vlp.evaluation.results import Results
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.run import Output
from compose_vlp.runtime.inference.outputs import Asker
from tests.models import tiny
from tests.records import Given


def file(colour: str, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(stream, kind)
    return stream.getvalue()


WHOLE = [
    file("red"),
    {"bytes": file("green", "AVIF"), "path": None},
    [file("blue", "JPEG")],
    Image.new("I;16", (20, 10), 40_000),
]
BROKEN = [
    file("red")[:40],
    {"bytes": file("green", "AVIF")[:-30] + bytes(30), "path": "a.avif"},
    [],
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "nowhere.png",
    {"path": None},
    7,
]
PICTURES = [picture for pair in zip(BROKEN, [*WHOLE, *WHOLE], strict=False) for picture in pair]
RECORDS: list[dict[str, Any]] = [{"image": picture, "caption": "a red circle"} for picture in PICTURES]
GOOD = tuple(range(1, 2 * len(BROKEN), 2))


class Patient(Given):
    """Records of which any share may be broken."""

    skip_limit = 1.0


@pytest.fixture(scope="module")
def blip() -> Asker:
    return tiny("tiny/blip")


def test_a_survey_and_training_leave_the_same_records_out(blip: Asker) -> None:
    inputs = {name: spec for name, spec in blip.blueprint.inputs.items() if name in ("image", "caption")}
    source, collator = Patient(RECORDS), Collator(inputs, blip.tokenizers)
    looked = survey(source, range(len(RECORDS)), collator=collator)
    assert tuple(sorted(set(range(len(RECORDS))) - set(looked.broken))) == GOOD
    assert set(survey(source, range(len(RECORDS))).broken) <= set(looked.broken), "what is no picture is none there"
    loader = Loader(source, inputs, blip.tokenizers, batch=2, train=True)
    for _, batch in zip(range(12), loader, strict=False):
        assert set(batch.rows) <= set(GOOD)
    assert set(loader.skipped) == set(looked.broken)
    assert all(loader.skipped[row].isprintable() for row in loader.skipped)


def test_evaluation_and_its_page_leave_them_out_too(blip: Asker) -> None:
    source = Patient(RECORDS)
    actual = evaluate_retrieval(blip, source, len(RECORDS))
    assert tuple(actual.rows) == GOOD
    captions = evaluate_captioning(blip, source, len(RECORDS))
    assert tuple(captions.rows) == GOOD
    page = page_of(Results(len(RECORDS), {"retrieval": actual}), blip, source, title="run", subtitle="")
    assert page.count("<img ") == len(GOOD)


def test_capfilt_counts_them_as_broken(blip: Asker, tmp_path: Path) -> None:
    judge = judge_of(blip, "judge", threshold=0.0)
    captioner = Captioner.of(blip, "writer")
    done = capfilt(Patient(RECORDS), judge, captioner, tmp_path, Settings(block=8), described={})
    assert (done.records, done.broken, done.pictures) == (len(RECORDS), len(BROKEN), len(GOOD))
    kept = sorted((tmp_path / "pictures").rglob("*.*"))
    assert [(int(picture.stem), picture.suffix) for picture in kept][:4] == [
        (1, ".png"),
        (3, ".avif"),
        (5, ".jpg"),
        (7, ".png"),
    ]


def test_capfilt_keeps_no_text_that_no_tokenizer_takes(blip: Asker, tmp_path: Path) -> None:
    texts: list[Any] = ["half \ud83d", ["half \ud83d", "a whole one"], 5, "a\x00b", ""]
    records = [{"image": file("red"), "caption": text} for text in texts]
    done = capfilt(Patient(records), judge_of(blip, "judge", threshold=0.0), None, tmp_path, Settings(texts="web"),
                   described={})  # fmt: skip
    assert done.broken == 0, "the pictures are whole"
    assert done.web.kept == 2
    assert "half" not in (tmp_path / "captions.jsonl").read_text()


@pytest.mark.parametrize("place", range(len(PICTURES)))
def test_a_model_that_is_asked_takes_and_refuses_the_same(blip: Asker, place: int) -> None:
    caption, picture = Output(blip, "caption"), PICTURES[place]
    if place in GOOD:
        assert caption(image=[picture], max_length=6)
        return
    with pytest.raises(UserError, match="cannot be asked"):
        caption(image=[picture])

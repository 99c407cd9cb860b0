"""A CoCa trained for real, within a minute and a half: different pictures get different, right captions.

Guards against what users of other implementations met: a fine-tuned model that says the same of every picture, and
training that was broken with nobody noticing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import ZeroShot
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step
from compose_vlp.data.loader import Loader
from compose_vlp.data.scenes.scoring import mentions, named_objects
from compose_vlp.data.scenes.world import COLOURS, SHAPES, Thing
from compose_vlp.data.source import Source, open_source
from compose_vlp.evaluation.captioning import Captions, evaluate_captioning
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.evaluation.zero_shot import evaluate_zero_shot
from compose_vlp.run import Run
from compose_vlp.runtime.modes import evaluating
from compose_vlp.runtime.training.trainer import TrainOptions
from compose_vlp.values import Image, Text

pytestmark = [pytest.mark.slow, pytest.mark.training, pytest.mark.timeout(900)]

PICTURES = 200
ONE_THING = {"size": 32, "min_objects": 1, "max_objects": 1}
OVERRIDES = (
    "stages.pretrain.length=300 steps",
    "stages.pretrain.batch=32",
    "params.lr={cosine: [2e-3, 2e-5], warmup: 30 steps}",
    "inputs.image.size=32",
    "data.pairs.count=10000",
    *(f"data.pairs.{name}={value}" for name, value in ONE_THING.items()),
)


@dataclass
class Learnt:
    """The trained model, and pictures that it never saw."""

    run: Run
    unseen: Source

    @cached_property
    def captions(self) -> Captions:
        return evaluate_captioning(self.run.asker, self.unseen, PICTURES)

    def thing(self, row: int) -> Thing:
        return self.unseen.record(row)["scene"].things[0]

    @cached_property
    def batch(self) -> Mapping[str, Any]:
        asker = self.run.asker
        loader = Loader(self.unseen, asker.blueprint.inputs, asker.tokenizers, batch=PICTURES, train=False)
        return next(iter(loader)).values

    def caption_loss(self, image: Image) -> float:
        """Nats a word of the true captions, given these pictures."""
        asker = self.run.asker
        program = compile_stage(asker.blueprint, "pretrain").run
        with evaluating(asker.model), torch.no_grad():
            params = Step(asker.blueprint.constants_and_starts())
            return float(asker.model(program, {**self.batch, "image": image}, params)["captioning"].value)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    blueprint = Blueprint.load("tiny/coca", overrides=OVERRIDES)
    folder = tmp_path_factory.mktemp("learnt") / "run"
    run = blueprint.train(out=folder, options=TrainOptions(seed=0, device="cpu"), track=False)
    return Learnt(run, open_source({"use": "scenes", "split": "unseen", "count": PICTURES, **ONE_THING}))


def test_different_pictures_get_different_captions(learnt: Learnt) -> None:
    counts = Counter(learnt.captions.captions)
    assert len(counts) > 40, counts.most_common(5)
    assert counts.most_common(1)[0][1] < PICTURES / 10


def test_captions_are_right_far_more_often_than_by_chance(learnt: Learnt) -> None:
    pairs = list(zip(learnt.captions.rows, learnt.captions.captions, strict=True))
    named = sum(named_objects(caption, learnt.unseen.record(row)["scene"]) for row, caption in pairs) / PICTURES
    assert named > 10 / (len(COLOURS) * len(SHAPES)), "colour and shape of the thing"
    coloured = sum(learnt.thing(row).colour in {colour for colour, _ in mentions(caption)} for row, caption in pairs)
    assert coloured / PICTURES > 6 / len(COLOURS), "its colour"
    assert (learnt.captions.scores.cider or 0) > 1.5


def test_retrieval_is_far_better_than_by_chance(learnt: Learnt) -> None:
    actual = evaluate_retrieval(learnt.run.asker, learnt.unseen, PICTURES).recall
    assert actual.chance < 0.01
    for side in (actual.image_to_text, actual.text_to_image):
        assert side[1] > 10 * actual.chance
        assert side[10] > 0.5


def test_the_words_loss_is_far_below_what_their_frequencies_alone_give(learnt: Learnt) -> None:
    text: Text = learnt.batch["caption"]
    words = Counter(word for row in text.ids.tolist() for word in row[1:] if word != text.pad)
    total = words.total()
    entropy = -sum(count / total * log(count / total) for count in words.values())
    assert learnt.caption_loss(learnt.batch["image"]) < entropy / 3


def test_captions_are_foretold_from_the_picture_and_not_from_their_words_alone(learnt: Learnt) -> None:
    image: Image = learnt.batch["image"]
    right, others = learnt.caption_loss(image), learnt.caption_loss(Image(image.pixels.roll(1, 0)))
    assert others > 1.5 * right


def test_classes_are_told_apart_by_texts_that_were_no_captions(learnt: Learnt) -> None:
    asked = ZeroShot(label="colour", templates=("a small {} circle in the middle", "a large {} star in the middle"))
    actual = evaluate_zero_shot(learnt.run.asker, learnt.unseen, PICTURES, asked)
    assert actual.top[1] > 4 * actual.chance

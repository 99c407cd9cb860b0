"""The `nn.Module` of a run: trained on by hand, and exported by `torch.export` with the run's own numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.data.source import open_source
from compose_vlp.run import Output
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.values import Image, Text
from tests.models import tiny
from tests.support import assert_near

PICTURES = [np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8) for seed in (1, 2)]
TEXTS = ["a red circle", "two blue stars over a small green square"]


class Tensors(nn.Module):
    """A program from tensors to a tensor: `pixels` of a picture, `ids` and `lengths` of a text."""

    def __init__(self, asker: Asker, output: str, text: Text | None = None) -> None:
        super().__init__()
        self.model, self.output, self.text = asker.model, output, text
        results = {output: asker.blueprint.outputs[output].ref}
        self.program: Any = compile_plan(asker.blueprint, "exported", results).run

    def forward(self, pixels: Tensor | None = None, ids: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        batch: dict[str, Any] = {} if pixels is None else {"image": Image(pixels)}
        if self.text is not None:
            batch["caption"] = dataclasses.replace(self.text, ids=ids, lengths=lengths)
        value = self.model(self.program, batch)[self.output]
        tensor: Tensor = value.scores if self.output == "caption" else value.features
        return tensor


def exported(module: Tensors, **example: Tensor) -> nn.Module:
    with torch.no_grad():
        program: nn.Module = torch.export.export(module.eval(), (), example).module()
    return program


def pixels_of(asker: Asker, picture: Any) -> Tensor:
    batch = asker.batch("image_embedding", {"image": [picture]})
    assert batch is not None
    pixels: Tensor = batch["image"].pixels
    return pixels


def text_of(asker: Asker, words: str) -> Text:
    """The text in its whole frame, so that texts of all lengths have one shape."""
    batch = asker.batch("text_embedding", {"caption": [words]})
    assert batch is not None
    text: Text = batch["caption"]
    return dataclasses.replace(
        text, ids=nn.functional.pad(text.ids, (0, text.frame - text.ids.shape[1]), value=text.pad)
    )


@pytest.fixture(scope="module")
def asker() -> Asker:
    return tiny("tiny/blip")


def test_an_exported_encoder_of_pictures_gives_the_run_s_embeddings(asker: Asker) -> None:
    encoder = exported(Tensors(asker, "image_embedding"), pixels=pixels_of(asker, PICTURES[0]))
    for picture in PICTURES:
        own = Output(asker, "image_embedding")(picture)
        assert_near(encoder(pixels=pixels_of(asker, picture))[0], own, within=1e-5)


def test_an_exported_encoder_of_texts_takes_texts_of_other_lengths(asker: Asker) -> None:
    first = text_of(asker, TEXTS[0])
    encoder = exported(Tensors(asker, "text_embedding", first), ids=first.ids, lengths=first.lengths)
    for words in TEXTS:
        text = text_of(asker, words)
        own = Output(asker, "text_embedding")(words)
        assert_near(encoder(ids=text.ids, lengths=text.lengths)[0], own, within=1e-5)


def test_an_exported_captioner_writes_the_run_s_captions(asker: Asker) -> None:
    frame = text_of(asker, TEXTS[0])
    example = {"pixels": pixels_of(asker, PICTURES[0]), "ids": frame.ids, "lengths": frame.lengths}
    captioner = exported(Tensors(asker, "caption", frame), **example)
    (tokenizer,) = asker.tokenizers.values()
    for picture in PICTURES:
        pixels, ids = pixels_of(asker, picture), torch.full_like(frame.ids, frame.pad)
        ids[0, 0] = int(tokenizer.begin_id or 0)
        for length in range(1, ids.shape[1]):
            scores = captioner(pixels=pixels, ids=ids, lengths=torch.tensor([length]))
            ids[0, length] = scores[0, length - 1].argmax()
            if ids[0, length] == tokenizer.end_id:
                break
        assert tokenizer.decode(ids[0].tolist()) == Output(asker, "caption")(picture, beams=1)


def test_training_on_by_hand_lowers_the_losses_and_changes_the_answers() -> None:
    asker = tiny("tiny/coca", small=(), seed=5)
    program = compile_stage(asker.blueprint, "pretrain").run
    collator, records = asker.collator(["image", "caption"]), open_source({"use": "scenes", "count": 6})
    batch = collator.stack([collator.read(records.record(number)) for number in range(6)])
    before = Output(asker, "image_embedding")(PICTURES[0])
    optimizer, totals = torch.optim.AdamW(asker.model.parameters(), lr=1e-3), []
    asker.model.train()
    for _ in range(4):
        losses = asker.model(program, batch)
        total = losses["contrastive"].value + 2 * losses["captioning"].value
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        totals.append(total.item())
    asker.model.eval()
    assert totals[-1] < totals[0]
    assert not torch.equal(Output(asker, "image_embedding")(PICTURES[0]), before)

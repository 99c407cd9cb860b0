"""Texts that go on after a prompt of the program's: lengths count it, as if the text had begun with its words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.compiler.incremental import compile_incremental
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.generate import generate
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.search import Search
from compose_vlp.values import Image
from tests.models import TOWERS, tiny

ROWS, FRAME, PROMPT = 4, 32, "a picture of"


@pytest.fixture(scope="module")
def asker() -> Asker:
    """Weights large enough that words differ from picture to picture, and that texts end at several lengths."""
    overrides = ["+outputs.plain={generate: logits, over: caption}"]
    actual = tiny("tiny/blip", "tiny/tasks/captioning", small=TOWERS, overrides=overrides, seed=3)
    end = actual.tokenizers["bert"].end_id
    with torch.no_grad():
        for parameter in actual.model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
        actual.model.student.lm_head.bias[end] += 3.0
    return actual


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image]:
    generator = torch.Generator().manual_seed(2)
    return {"image": Image(torch.randn(ROWS, 3, 16, 16, generator=generator) * 2)}


HOWS: list[dict[str, Any]] = [
    {"beams": 1},
    {"min_length": 9, "beams": 1},
    {"min_length": 7, "max_length": 20},
    {"max_length": 6, "min_length": 6},
    {"length_penalty": 3.0, "min_length": 0},
    {"repetition_penalty": 1.5},
    {"top_p": 0.9, "repetition_penalty": 1.1, "min_length": 8},
]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_prompt_of_the_program_counts_like_words_that_the_text_begins_with(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any], cached: bool
) -> None:
    actual = asker.ids_of_batch("caption", pictures, seed=5, cached=cached, **how)
    expected = begun_with_the_prompt(asker, pictures, seed=5, **how)
    assert torch.equal(actual, expected)


def test_pictures_are_told_apart_or_the_test_above_proves_nothing(asker: Asker, pictures: dict[str, Image]) -> None:
    ids = asker.ids_of_batch("caption", pictures, beams=1)
    assert len({tuple(row) for row in ids.tolist()}) == ROWS


def begun_with_the_prompt(asker: Asker, pictures: dict[str, Image], seed: int, **how: Any) -> Tensor:
    """Texts of the program without a prompt, begun with its words, which are then taken out."""
    tokenizer = asker.tokenizers["bert"]
    assert tokenizer.end_id is not None
    prompt = tokenizer.encode(PROMPT, FRAME)[:-1]
    written = {} if "top_p" in how else {"beams": 3}
    chosen = {**written, "max_length": 32, "min_length": 5, **how}
    first = torch.tensor([tokenizer.id_of("[DEC]"), *prompt[1:]])
    ids = generate(
        asker.model,
        compile_incremental(asker.blueprint, "plain"),
        pictures,
        first.expand(ROWS, -1),
        Search(tokenizer.end_id, tokenizer.pad_id, **chosen),
        frame=FRAME,
        generator=torch.Generator().manual_seed(seed),
    )
    return torch.cat((torch.full((ROWS, 1), prompt[0]), ids[:, len(prompt) :]), 1)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("how", [{"beams": 1}, {"beams": 3}, {"top_p": 0.9}], ids=str)
def test_a_text_that_never_ends_stops_where_positions_do(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any], cached: bool
) -> None:
    ids = asker.ids_of_batch("caption", pictures, cached=cached, min_length=FRAME, max_length=FRAME, **how)
    assert ids.shape == (ROWS, FRAME - len(PROMPT.split()))
    assert not (ids == asker.tokenizers["bert"].end_id).any()


@pytest.mark.parametrize("cached", [True, False])
def test_a_length_that_the_prompt_fills_is_refused(asker: Asker, pictures: dict[str, Image], cached: bool) -> None:
    assert asker.ids_of_batch("caption", pictures, cached=cached, max_length=5).shape == (ROWS, 2)
    with pytest.raises(UserError, match="max_length 4 leaves no word to foretell: texts begin with 4 tokens"):
        asker.ids_of_batch("caption", pictures, cached=cached, max_length=4)


def test_the_prompt_is_no_part_of_the_text(asker: Asker, pictures: dict[str, Image]) -> None:
    assert not any(text.startswith("a picture") for text in asker.texts_of_batch("caption", pictures))

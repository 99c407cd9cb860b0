"""Generation with a real, untrained model: keys and values kept say what recomputing says, at the edges too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.values import Image

ROWS = 4


@pytest.fixture(scope="module")
def asker(small_coca: Callable[..., Blueprint]) -> Asker:
    """Weights large enough that words differ from picture to picture."""
    checked = small_coca().check()
    bpe = checked.components["bpe"].kind.implementation(checked.components["bpe"].config)
    bpe.train(["a small red circle in the top left of a grey picture beside two blue squares"] * 4)
    torch.manual_seed(0)
    model = build(checked, torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    return Asker(checked, model, {"bpe": bpe}, torch.device("cpu"))


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image]:
    generator = torch.Generator().manual_seed(2)
    return {"image": Image(torch.randn(ROWS, 3, 16, 16, generator=generator) * 2)}


HOWS: list[dict[str, Any]] = [
    {},
    {"max_length": 2},
    {"min_length": 9, "repetition_penalty": 1.3},
    {"beams": 3},
    {"beams": 3, "max_length": 2},
    {"beams": 5, "length_penalty": 0.0, "min_length": 5},
    {"beams": 400, "max_length": 4},  # more than there are words
    {"top_p": 0.9},
    {"top_k": 1000, "temperature": 0.7},  # more than there are words
    {"top_p": 1.0, "temperature": 3.0, "min_length": 6},
]


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_keys_and_values_kept_say_what_recomputing_says(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any]
) -> None:
    kept = asker.ids_of_batch("caption", pictures, seed=3, **how)
    whole = asker.ids_of_batch("caption", pictures, seed=3, cached=False, **how)
    assert torch.equal(kept, whole)
    assert kept.shape[0] == ROWS and kept.shape[1] <= how.get("max_length", 12)


def test_different_pictures_are_told_apart_or_the_tests_above_prove_nothing(
    asker: Asker, pictures: dict[str, Image]
) -> None:
    assert len({tuple(row) for row in asker.ids_of_batch("caption", pictures).tolist()}) == ROWS


@pytest.mark.parametrize("how", [{}, {"beams": 3}], ids=str)
def test_a_picture_s_text_does_not_depend_on_its_company(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any]
) -> None:
    together = asker.texts_of_batch("caption", pictures, **how)
    alone = [
        asker.texts_of_batch("caption", {"image": Image(picture[None])}, **how)[0]
        for picture in pictures["image"].pixels
    ]
    assert together == alone


@pytest.mark.parametrize("how", [{}, {"beams": 3}, {"top_p": 0.5}], ids=str)
def test_a_text_that_ends_at_once_is_empty(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = asker.tokenizers["bpe"].end_id
    head = asker.model.student.lm_head
    plain = head.forward

    def ends(*args: Any, **named: Any) -> Any:
        logits = plain(*args, **named)
        logits.scores[..., end] += 1e4
        return logits

    monkeypatch.setattr(head, "forward", ends)
    for cached in (True, False):
        ids = asker.ids_of_batch("caption", pictures, cached=cached, **how)
        assert ids.tolist() == [[asker.tokenizers["bpe"].begin_id, end]] * ROWS
    assert asker.texts_of_batch("caption", pictures, **how) == [""] * ROWS


def test_asking_leaves_the_model_in_the_mode_that_it_was_in(asker: Asker, pictures: dict[str, Image]) -> None:
    asker.model.train()
    asker.model.student.vision.eval()
    asker.texts_of_batch("caption", pictures, beams=2)
    asker.value_of_batch("image_embedding", pictures)
    assert asker.model.student.lm_head.training and not asker.model.student.vision.training


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"temperature": 0}, "temperature: Input should be greater than 0, not 0"),
        ({"max_length": 1}, "max_length: Input should be greater than or equal to 2"),
        ({"beams": 0}, "beams"),
        ({"top_p": 1.5}, "top_p"),
        ({"beams": 3, "top_p": 0.9}, "`beams` and `top_p` exclude each other"),
        ({"max_length": 13}, "longer than the 12 positions"),
        ({"beam": 3}, "did you mean 'beams'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    asker: Asker, pictures: dict[str, Image], how: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        asker.texts_of_batch("caption", pictures, **how)
    assert says in str(refused.value) or any(
        says in hint for problem in refused.value.problems for hint in problem.hints
    )


def test_what_the_caller_asks_for_replaces_the_blueprint_s_way(
    small_coca: Callable[..., Blueprint], asker: Asker, pictures: dict[str, Image]
) -> None:
    beams = Asker(small_coca("outputs.caption.beams=3").check(), asker.model, asker.tokenizers, asker.device)
    drawn = Asker(small_coca("outputs.caption.top_p=0.8").check(), asker.model, asker.tokenizers, asker.device)
    assert beams.texts_of_batch("caption", pictures, top_p=0.8) == drawn.texts_of_batch("caption", pictures)
    assert drawn.texts_of_batch("caption", pictures, beams=3) == beams.texts_of_batch("caption", pictures)


def test_an_empty_text_that_is_asked_with_is_the_caller_s_mistake(asker: Asker) -> None:
    with pytest.raises(UserError, match="output 'text_embedding' cannot be asked: caption is empty"):
        asker.value("text_embedding", {"caption": ["  "]})

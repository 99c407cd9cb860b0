"""Every position foretells the next word, and nothing else is asked of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from compose_vlp.components.losses.next_token import NextToken
from compose_vlp.values import Logits, Number, Text

IDS = torch.tensor([[1, 5, 0, 3, 2], [1, 4, 2, 0, 0]])  # a word with the padding's id in the first text
TEXT = Text(IDS, torch.tensor([5, 3]), frame=8)


def loss(**settings: Any) -> NextToken:
    return NextToken(NextToken.Config(**settings))


def scores() -> torch.Tensor:
    return torch.randn(2, 5, 7)


def test_it_is_the_mean_over_the_words_that_follow_another() -> None:
    s = scores()
    expected = F.cross_entropy(torch.cat((s[0, :4], s[1, :2])), torch.tensor([5, 0, 3, 2, 4, 2]))
    assert torch.allclose(loss()(Logits(s, TEXT)).value, expected)


def test_words_with_the_paddings_id_can_be_left_out_as_open_clip_does() -> None:
    s = scores()
    expected = F.cross_entropy(s[:, :-1].transpose(1, 2), IDS[:, 1:], ignore_index=0)
    assert torch.allclose(loss(skip="pad_id")(Logits(s, TEXT)).value, expected)


def test_given_words_are_not_foretold() -> None:
    s = scores()
    text = Text(IDS, TEXT.lengths, 8, given=torch.tensor([3, 2]))
    expected = F.cross_entropy(torch.cat((s[0, 2:4], s[1, 1:2])), torch.tensor([3, 2, 2]))
    assert torch.allclose(loss()(Logits(s, text)).value, expected)


def test_label_smoothing_is_torchs() -> None:
    s = scores()
    expected = F.cross_entropy(torch.cat((s[0, :4], s[1, :2])), torch.tensor([5, 0, 3, 2, 4, 2]), label_smoothing=0.1)
    assert torch.allclose(loss(label_smoothing=0.1)(Logits(s, TEXT)).value, expected)


@pytest.mark.parametrize("skip", ["padding", "pad_id"])
def test_logits_at_the_places_that_it_selects_give_the_same_loss_and_gradients(skip: str) -> None:
    s = scores().requires_grad_()
    next_token = loss(skip=skip)
    at = next_token.selects(TEXT)
    assert at.tolist() == ([0, 1, 2, 3, 5, 6] if skip == "padding" else [0, 2, 3, 5, 6])
    whole = next_token(Logits(s, TEXT)).value
    chosen = next_token(Logits(s.flatten(0, 1)[at], TEXT, at)).value
    assert torch.allclose(whole, chosen)
    gradients = [torch.autograd.grad(value, s)[0] for value in (whole, chosen)]
    assert torch.allclose(*gradients)


def test_other_places_than_it_selects_change_nothing() -> None:
    s = scores()
    every = torch.arange(10)
    assert torch.allclose(loss()(Logits(s.flatten(0, 1), TEXT, every)).value, loss()(Logits(s, TEXT)).value)


def test_texts_without_a_word_to_foretell_cost_nothing() -> None:
    s = torch.randn(2, 1, 7, requires_grad=True)
    value = loss()(Logits(s, Text(IDS[:, :1], torch.tensor([1, 1]), 8))).value
    assert float(value.detach()) == 0
    value.backward()
    assert s.grad is not None
    assert not s.grad.any()


def test_logits_that_stand_on_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="stand on a text"):
        loss()(Logits(scores()))


def test_answers_weigh_what_they_are_given_and_questions_are_what_is_counted() -> None:
    s = scores()
    weights, questions = Number(torch.tensor([0.25, 2.0])), Number(torch.tensor([1, 2, 3]))
    each = [
        F.cross_entropy(s[0, :4], torch.tensor([5, 0, 3, 2]), label_smoothing=0.1, reduction="sum"),
        F.cross_entropy(s[1, :2], torch.tensor([4, 2]), label_smoothing=0.1, reduction="sum"),
    ]
    next_token = loss(label_smoothing=0.1)
    actual = next_token(Logits(s, TEXT), weights, questions)
    assert torch.allclose(actual.value, (0.25 * each[0] + 2 * each[1]) / 3)
    at = next_token.selects(TEXT)
    chosen = next_token(Logits(s.flatten(0, 1)[at], TEXT, at), weights, questions)
    assert torch.allclose(chosen.value, actual.value)


def test_a_teachers_words_are_foretold_in_part() -> None:
    s, taught, words = scores(), torch.randn(2, 5, 7, requires_grad=True), torch.tensor([5, 0, 3, 2, 4, 2])
    student, teacher = (torch.cat((x[0, :4], x[1, :2])) for x in (s, taught))
    soft = -(teacher.softmax(1) * student.log_softmax(1)).sum(1)
    expected = (0.6 * F.cross_entropy(student, words, reduction="none") + 0.4 * soft).mean()
    s.requires_grad_()
    whole = loss()(Logits(s, TEXT), soft=Logits(taught, TEXT), alpha=0.4).value
    at = loss().selects(TEXT)
    chosen_scores = [Logits(x.flatten(0, 1)[at], TEXT, at) for x in (s, taught)]
    chosen = loss()(chosen_scores[0], soft=chosen_scores[1], alpha=0.4).value
    assert torch.allclose(whole, expected)
    assert torch.allclose(chosen, expected)
    whole.backward()
    assert taught.grad is None
    per = loss()(Logits(s, TEXT), per=Number(torch.zeros(3)), soft=Logits(taught, TEXT), alpha=0.4).value
    assert torch.allclose(per, expected * len(words) / 3)

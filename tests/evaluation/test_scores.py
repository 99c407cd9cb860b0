"""Retrieval recall and caption scores on cases that can be checked by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from compose_vlp.evaluation import retrieval
from compose_vlp.evaluation.captioning import caption_scores, words_of
from compose_vlp.evaluation.retrieval import Matches, Recall, rankings, recall


def recall_of(scores: Tensor, captions: Sequence[Sequence[str]], texts: Sequence[str]) -> Recall:
    """Recall where picture i and text j have the similarity `scores[i, j]`."""
    matches = Matches(captions, texts)
    return recall(rankings(scores, torch.eye(scores.shape[1]), matches), matches.share())


def test_any_of_a_picture_s_texts_is_right_for_it() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]])
    actual = recall_of(scores, [["one", "two"], ["three"]], ["one", "two", "three"])
    assert actual.image_to_text == {1: 0.5, 5: 1.0, 10: 1.0}  # the second picture prefers the first's `one`
    assert actual.text_to_image[1] == pytest.approx(2 / 3)  # `one` prefers the second picture
    assert actual.chance == pytest.approx(0.5)
    assert (actual.images, actual.texts) == (2, 3)
    assert actual.mean == pytest.approx((0.5 + 1 + 1 + 2 / 3 + 1 + 1) / 6)


def test_a_text_that_two_pictures_have_is_right_for_both() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.2, 0.2, 0.1]])
    actual = recall_of(scores, [["same"], ["same"], ["other"]], ["same", "same", "other"])
    assert actual.image_to_text[1] == pytest.approx(2 / 3)
    assert actual.text_to_image[1] == pytest.approx(2 / 3)  # `other` prefers the first two
    assert actual.chance == pytest.approx(5 / 9)


def test_a_constant_score_has_no_recall() -> None:
    names = [str(number) for number in range(20)]
    actual = recall_of(torch.ones(20, 20), [[name] for name in names], names)
    assert actual.image_to_text == {1: 0.0, 5: 0.0, 10: 0.0} == actual.text_to_image
    assert actual.mean == 0


def test_equal_vectors_tie_whatever_rounding_makes_of_their_products() -> None:
    """A model that embeds everything alike finds nothing, at any block and width."""
    names = [str(number) for number in range(700)]
    matches = Matches([[name] for name in names], names)
    same = torch.nn.functional.normalize(torch.randn(1, 511), dim=1).repeat(700, 1)
    actual = recall(rankings(same, same * 0.1, matches), matches.share())
    assert set(actual.image_to_text.values()) == {0.0} == set(actual.text_to_image.values())


def test_blocks_of_queries_find_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, texts = torch.randn(30, 8), torch.randn(75, 8)
    captions = [[f"{picture} {number % 2}" for number in range(3)] for picture in range(30)]  # one of them twice
    sentences = [text for own in captions for text in own]
    matches = Matches(captions, sentences)
    whole = rankings(pictures, texts.repeat(2, 1)[:90], matches)
    share = matches.share()
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    for ranking, other in zip(whole, rankings(pictures, texts.repeat(2, 1)[:90], matches), strict=True):
        assert torch.equal(ranking.before, other.before) and torch.equal(ranking.first, other.first)
    assert matches.share() == share == pytest.approx(1 / 30)


def test_perfect_captions_score_highest_and_one_for_all_is_seen() -> None:
    texts = ["a red circle above a blue square", "a small green star", "two yellow triangles in a row today"]
    perfect = caption_scores(texts, [[t] for t in texts])
    assert perfect.bleu == pytest.approx((1.0,) * 4, abs=1e-6) and perfect.cider == pytest.approx(10.0, abs=0.1)
    assert perfect.rouge_l == pytest.approx(1.0)
    assert perfect.distinct == perfect.exact == 1.0
    same = caption_scores([texts[0]] * 3, [[t] for t in texts])
    assert same.distinct == pytest.approx(1 / 3) == same.exact and same.cider < 4 and same.rouge_l < 0.7


def test_the_best_of_several_references_counts() -> None:
    actual = caption_scores(["a dog runs fast"], [["the cat sleeps", "a dog runs fast"]])
    assert actual.bleu[3] == pytest.approx(1.0) and actual.rouge_l == pytest.approx(1.0) and actual.exact == 1


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    actual = caption_scores(["the cat on the mat"], [["the cat sat on a mat"]])  # four words in common, in order
    precision, recalled, beta = 4 / 5, 4 / 6, 1.2
    expected = (1 + beta**2) * precision * recalled / (recalled + beta**2 * precision)
    assert actual.rouge_l == pytest.approx(expected)


def test_case_and_punctuation_do_not_count() -> None:
    actual = caption_scores(["A cat, sleeping on the mat."], [["a cat sleeping on the mat"]])
    assert actual.bleu[3] == pytest.approx(1.0) and actual.exact == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A cat, it's \u201c50%\u201d off_x!", "a cat it s 50 off_x"),
        (
            "\u090f\u0915 \u092c\u093f\u0932\u094d\u0932\u0940",
            "\u090f\u0915 \u092c\u093f\u0932\u094d\u0932\u0940",
        ),  # Hindi
        ("\u0b85\u0bae\u0bcd\u0bae\u0bbe", "\u0b85\u0bae\u0bcd\u0bae\u0bbe"),  # Tamil
        ("\u0e20\u0e32\u0e29\u0e32 \u0e01\u0e33x", "\u0e20 \u0e32 \u0e29 \u0e32 \u0e01\u0e33 x"),  # Thai
        ("\u4e00\u53ea\u732b\u3002", "\u4e00 \u53ea \u732b"),  # Chinese
        ("abc\u6f22\u5b57\u304c\u3001", "abc \u6f22 \u5b57 \u304c"),  # Japanese
        ("\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5"),  # Korean has spaces
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),  # Persian
        ("Cafe\u0301", "caf\u00e9"),
        ("\U0001f431\U0001f436", "\U0001f431 \U0001f436"),
        ("?!", ""),
    ],
)
def test_texts_of_all_scripts_are_cut_into_words(text: str, words: str) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize("scripts", ["\u0915{} \u0916{}", "\u0b95{}", "\u0e01{}"])
def test_words_that_differ_in_a_mark_alone_are_different(scripts: str) -> None:
    marks = {"\u0915": "\u093e\u0940", "\u0b95": "\u0bbe\u0bbf", "\u0e01": "\u0e34\u0e35"}[scripts[0]]
    text, other = (scripts.replace("{}", mark) for mark in marks)
    assert caption_scores([text], [[other]]).exact == caption_scores([text], [[other]]).rouge_l == 0.0
    assert caption_scores([text], [[text]]).exact == 1.0


def test_one_letter_of_nine_costs_a_ninth() -> None:
    caption, true = (
        "\u4e00\u53ea\u7ea2\u8272\u7684\u732b\u5750\u7740\u4e86",
        "\u4e00\u53ea\u7ea2\u8272\u7684\u732b\u7ad9\u7740\u4e86",
    )
    actual = caption_scores([caption], [[true]])
    assert actual.bleu[0] == pytest.approx(8 / 9) == pytest.approx(actual.rouge_l)


@pytest.mark.parametrize(("caption", "true"), [("!", "?"), ("", "?"), ("\U0001f431", "\U0001f436"), (".", ",")])
def test_texts_without_words_are_equal_to_no_others(caption: str, true: str) -> None:
    actual = caption_scores([caption, "a cat"], [[true], ["a cat"]])
    assert actual.exact == 0.5 == pytest.approx(actual.rouge_l)


def test_cider_is_left_out_where_no_word_has_a_weight() -> None:
    """Words are weighed by how few records have them: of one record, or equal ones, all have all."""
    for references in ([["a cat"]], [["a cat"]] * 3):
        actual = caption_scores(["a cat"] * len(references), references)
        assert actual.cider is None and "cider" not in actual.flat() and actual.exact == 1.0
    assert "cider" in caption_scores(["a cat", "a dog"], [["a cat"], ["a dog"]]).flat()

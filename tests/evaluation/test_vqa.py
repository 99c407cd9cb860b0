"""VQA's accuracy against a plain rewriting of the official script, person by person."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence

import pytest

from compose_vlp.evaluation.vqa import MENDED, plain, vqa_accuracy, weights_of

TEN_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS = r"""
    red blue Red yes no a an the A two 2 ten 10 none 0 zero 1,000 1000 1,000.5 2.5 2. .5 u.s.a. usa p.m. pm 50% 50 dont
    don't dogs dog's doesnt y'all'dve yalld've y'alldve somebody'd somebodyd twas 'twas o'clock oclock lets let's she's
    wont I'm im Ive t-shirt t shirt tshirt hot-dog black/white black white (left) [x] {y} a;b a:b 5:30 x_y c++ #1 $5 & *
    what? really! `q` "quoted" a,b a, ,b <b> = \ @home x!y é naïve
""".split()  # noqa: SIM905


def official_words(text: str) -> str:
    """Punctuation, then digits and articles, in the script's order, written from its description."""
    kept = text
    number_with_comma = bool(re.search("[0-9],[0-9]", text))
    for sign in [
        ";",
        "/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ]:
        alone = (sign + " ") in text or (" " + sign) in text
        kept = kept.replace(sign, "" if alone or number_with_comma else " ")
    letters, gone = "", 0
    for place, letter in enumerate(kept):
        if letter == "." and kept[place + 1 : place + 2] not in list("0123456789") and gone < 32:
            gone += 1
        else:
            letters += letter
    actual = []
    for word in letters.lower().split():
        word = "0" if word == "none" else str(TEN_NUMBERS.index(word)) if word in TEN_NUMBERS else word
        if word not in ("a", "an", "the"):
            actual.append(MENDED.get(word, word))
    return " ".join(actual)


def official_accuracy(answer: str, given: Sequence[str]) -> float:
    """Each of ten people is left out in turn; an answer is right for them if three of the others gave it."""
    given = [text.replace("\n", " ").replace("\t", " ").strip() for text in given]
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    if any(text != given[0] for text in given):
        given, answer = [official_words(text) for text in given], official_words(answer)
    turns = []
    for left_out in range(len(given)):
        others = [text for place, text in enumerate(given) if place != left_out]
        turns.append(min(1.0, others.count(answer) / 3))
    return sum(turns) / len(turns)


def test_the_contractions_are_those_of_the_official_script() -> None:
    """The digest of its table, without those in capitals, which it never meets, and those that change nothing."""
    digest = hashlib.sha256(json.dumps(sorted(MENDED.items())).encode()).hexdigest()
    assert digest == "853d25c89947b7f6d41f6c5f81b2d6c3119927f4b16f557fc1b03af6ef45605e"


def test_every_answer_scores_what_the_official_script_gives_it() -> None:
    draw = random.Random(7)

    def answer() -> str:
        text = draw.choice(["", "", "", " ", "\t"]).join(draw.choices(WORDS, k=draw.choice([1, 1, 1, 2, 3])))
        return draw.choice([text, " ".join(draw.choices(WORDS, k=draw.choice([1, 2, 3])))])

    right = 0
    for _ in range(6000):
        few = [answer() for _ in range(draw.choice([1, 2, 3, 5]))]
        given = draw.choices(few, k=10)
        guess = draw.choice(
            [draw.choice(given), draw.choice(given).upper(), draw.choice(given).replace("'", ""), answer()]
        )
        expected = official_accuracy(guess, given)
        right += expected > 0
        counts = {text: given.count(text) for text in given}
        for weights in (counts, {text: n / 10 for text, n in counts.items()}):
            assert vqa_accuracy(guess, weights) == pytest.approx(expected, abs=1e-9), (guess, given)
    assert right > 1000


@pytest.mark.parametrize("count", [31, 32, 33, 40])
def test_of_many_periods_the_script_leaves_out_32(count: int) -> None:
    text = "a.b" + "." * (count - 1)
    assert plain(text) == official_words(text)
    assert plain(text).count(".") == max(0, count - 32)


@pytest.mark.parametrize(
    ("answer", "given", "accuracy"),
    [
        ("two", {"2": 1.0}, 0.0),
        ("2", {"two": 0.4, "three": 0.6}, 1.0),
        ("a dog", {"dog": 1.0}, 0.0),
        ("50", {"50%": 0.6, "half": 0.4}, 0.0),
        ("usa", {"u.s.a.": 0.5, "america": 0.5}, 1.0),
        ("pm", {"p.m.": 0.5, "night": 0.5}, 1.0),
        ("the two", {"2": 2, "Two": 1, "one": 7}, 0.9),
        ("red", {"red": 1.0}, 1.0),
        ("red", {"red": 1.0, "blue": 0.0}, 1.0),
        ("red", {"red": 1, "blue": 1}, 1.0),
        ("red", {"red": 2, "blue": 18}, 0.3),
        ("red", {"red": 0.05, "blue": 0.95}, 0.95 / 6),
        ("red", {"red": 0.15, "blue": 0.85}, 0.45),
        ("red", {"red": 0.333, "blue": 0.667}, 25 / 27),
        ("blue", {"red": 7, "blue": 3}, 0.9),
        ("no", {"yes": 1.0, "no": 0.3}, 0.3),
        ("maybe", {"yes": 1.0, "no": 0.3}, 0.0),
        ("red", {"red": 0.6, "blue": 0.6, "green": 0.6}, 0.6),
        ("\u0915\u0940", {"\u0915\u093e": 1.0}, 0.0),
        ("\u0915\u0940", {"\u0915\u093e": 0.5, "\u0916": 0.5}, 0.0),
        ("caf\u00e9", {"cafe\u0301": 1.0}, 1.0),
        ("cafe\u0301", {"caf\u00e9": 0.5, "bar": 0.5}, 1.0),
    ],
)
def test_accuracies_by_hand(answer: str, given: dict[str, float], accuracy: float) -> None:
    assert vqa_accuracy(answer, given) == pytest.approx(accuracy, abs=1e-3)


def test_what_weights_mean_is_read_off_all_records() -> None:
    assert weights_of([{"a": 0.7, "b": 0.3}, {"a": 7, "b": 3}]) == "shares"
    assert weights_of([{"a": 1.0}, {"a": 1.0, "b": 0.3}, {"a": 0.3}]) == "scores"
    for unclear in ([{"a": 0.3}], [{"a": 0.5}], [{"a": 1.0, "b": 0.25}], [{"a": 0.0}], [{"a": -1.0, "b": 2.0}]):
        with pytest.raises(ValueError, match="no shares"):
            weights_of(unclear)

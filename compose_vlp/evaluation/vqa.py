"""VQA's accuracy (Antol et al. 2015) as its official script computes it, and what weights of answers mean.

The script is `vqaEval.py` of github.com/GT-Vision-Lab/VQA, as of its last change.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

ANNOTATORS: Final = 10
"""VQA asked so many people each question."""
AGREE: Final = 3
"""An answer is right for one of them if three of the others gave it."""
SOFT_SCORES: Final = (0.3, 0.6, 0.9, 1.0)
"""What one, two, three and four or more of ten people come to: LXMERT's data has these in place of the people."""
CLOSE: Final = 1e-3
"""Weights that were rounded to three digits still sum to 1, or are these scores."""

Weights: TypeAlias = Literal["shares", "scores"]

_NUMBERS: Final = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}
_ARTICLES: Final = frozenset({"a", "an", "the"})
_CONTRACTIONS: Final = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # noqa: SIM905
MENDED: Final = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the script has this one the wrong way round
"""Contractions that lack one apostrophe, and what the script makes of them."""
_PUNCTUATION: Final = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER: Final = re.compile(r"[0-9],[0-9]")
_PERIOD: Final = re.compile(r"\.(?![0-9])")
_PERIODS_LEFT_OUT: Final = 32
"""Of more periods the rest stays: the script passes a flag in the place of a count."""


def trimmed(answer: str) -> str:
    """Write an answer without space around it, in Unicode's composed form, in which equal letters are equal."""
    return unicodedata.normalize("NFC", answer).replace("\n", " ").replace("\t", " ").strip()


def plain(answer: str) -> str:
    """Write an answer as the script compares it: lower case, no articles, digits up to ten, contractions mended.

    A sign of punctuation becomes nothing where it stands beside a space, or where any number has a comma, and a space
    elsewhere. Apostrophes, colons and signs that are not in its list stay; periods stay before a digit.
    """
    answer = trimmed(answer)
    in_number = _COMMA_IN_NUMBER.search(answer) is not None
    text = answer
    for sign in _PUNCTUATION:
        beside_space = f"{sign} " in answer or f" {sign}" in answer
        text = text.replace(sign, "" if beside_space or in_number else " ")
    text = _PERIOD.sub("", text, count=_PERIODS_LEFT_OUT)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(MENDED.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(said: str, given: Mapping[str, float], weights: Weights | None = None) -> float:
    """VQA's accuracy of an answer against the people's, with their number, share or soft score each.

    The mean over ten people of min(n / 3, 1), n of the nine others having given the answer: 0.3, 0.6, 0.9 and 1 for
    one, two, three and four of ten. Other numbers of people count as ten of whom the same share gave it. As in the
    script, answers are cut down to `plain` words only where people differ; where all gave the same, it is compared as
    it stands. A soft score is itself the accuracy.

    Args:
        said: The answer.
        given: People's answers with their weights.
        weights: What the weights are; None judges by these alone, as `weights_of` does.

    Raises:
        ValueError: the weights may mean several things, or nothing.
    """
    weights = weights or weights_of([given])
    total = sum(given.values())
    kept = {trimmed(answer) for answer, weight in given.items() if weight > 0}
    read = trimmed if len(kept) == 1 and (weights == "shares") else plain
    weight = sum(weight for answer, weight in given.items() if read(answer) == read(said))
    if weights == "scores":
        return min(weight, 1.0)
    share = weight / total
    gave = ANNOTATORS * share
    return share * _agreed(gave - 1) + (1 - share) * _agreed(gave)


def _agreed(others: float) -> float:
    return min(max(others / AGREE, 0.0), 1.0)


def weights_of(records: Iterable[Mapping[str, float]]) -> Weights:
    """Tell what the weights of a data set's answers are: shares of the people who gave them, or soft scores.

    Weights that sum to 1 are shares, whole numbers count people. Others are soft scores where each is one of
    `SOFT_SCORES` and somewhere they sum to more than 1, as no shares do.

    Raises:
        ValueError: some are none of these; shows the first.
    """
    others = [given for given in records if not (_are_shares(given) or _are_counts(given))]
    if not others:
        return "shares"
    for given in others:
        if not all(
            any(math.isclose(weight, score, abs_tol=CLOSE) for score in (0, *SOFT_SCORES)) for weight in given.values()
        ):
            raise ValueError(f"{dict(given)} are {_UNCLEAR}")
    if not any(sum(given.values()) > 1 for given in others):
        raise ValueError(f"{dict(others[0])} are {_UNCLEAR}")
    return "scores"


_UNCLEAR: Final = "no shares (they do not sum to 1), no counts (whole numbers), and not clearly soft scores"


def _are_shares(given: Mapping[str, float]) -> bool:
    return min(given.values()) >= 0 and math.isclose(sum(given.values()), 1, abs_tol=CLOSE)


def _are_counts(given: Mapping[str, float]) -> bool:
    return min(given.values()) >= 0 < sum(given.values()) and all(
        float(weight).is_integer() for weight in given.values()
    )

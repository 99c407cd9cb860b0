"""What is done to a text before it is cut into tokens, by the name that a tokenizer's `clean` gives it."""

import html
from collections.abc import Callable
from typing import Final, Literal

Clean = Literal["none", "lower", "clip"]


def as_it_is(text: str) -> str:
    """The text itself."""
    return text


def lower(text: str) -> str:
    """Lower case, and single spaces between words."""
    return " ".join(text.lower().split())


def clip(text: str) -> str:
    """CLIP's cleaning: broken encodings mended, HTML entities resolved twice, single spaces, lower case.

    Source: `basic_clean` and `whitespace_clean` of github.com/openai/CLIP, `clip/simple_tokenizer.py`.
    """
    import ftfy

    return lower(html.unescape(html.unescape(ftfy.fix_text(text))))


CLEANERS: Final[dict[Clean, Callable[[str], str]]] = {"none": as_it_is, "lower": lower, "clip": clip}

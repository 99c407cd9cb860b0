"""What papers do to a text before their tokenizer has it, by the name that an input's `clean` gives it.

A tokenizer's own `clean` belongs to its vocabulary; this belongs to what a text is, since one tokenizer reads both
captions and questions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeGuard

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.data.source import BadRecord, shown

MOST_LETTERS: Final = 1_000_000
"""A longer text is no caption; tokenizers take time and memory in proportion, and some more than that."""
_HALF: Final = re.compile(r"[\ud800-\udfff]")
ALBEF_MARKS: Final = re.compile(r"[,.'!?\"()*#:;~]")
BLIP_MARKS: Final = re.compile(r"[.!\"()*#:;~]")
_SPACES: Final = re.compile(r"\s{2,}")


def albef_caption(text: str) -> str:
    """ALBEF's captions: lower case, no punctuation, hyphens and slashes as spaces, single spaces.

    Source: github.com/salesforce/ALBEF, `pre_caption` of `dataset/utils.py`.
    """
    return _SPACES.sub(" ", _albef_letters(text)).strip()


def albef_question(text: str) -> str:
    """ALBEF's questions: as its captions, but spaces within stay as they are (`pre_question`)."""
    return _albef_letters(text).rstrip()


def blip_caption(text: str) -> str:
    """BLIP's captions: lower case, most punctuation as spaces, single spaces; commas and apostrophes stay.

    Source: github.com/salesforce/BLIP, `pre_caption` of `data/utils.py`.
    """
    return _SPACES.sub(" ", BLIP_MARKS.sub(" ", text.lower())).strip()


def blip_question(text: str) -> str:
    """BLIP's questions: lower case, the same punctuation left out, spaces within as they are (`pre_question`)."""
    return BLIP_MARKS.sub("", text.lower()).rstrip()


CLEANERS: Final[dict[str, Callable[[str], str]]] = {
    "albef_caption": albef_caption,
    "albef_question": albef_question,
    "blip_caption": blip_caption,
    "blip_question": blip_question,
}


def checked_text(value: object, name: str) -> str:
    """Return a record's value, if it is a text that can be cleaned, tokenized and stored.

    Raises:
        BadRecord: it is no text, is longer than `MOST_LETTERS`, or holds half of a surrogate pair (a letter cut in two,
            as texts of the web are that were shortened in UTF-16), for which UTF-8 has no form.
    """
    if not isinstance(value, str):
        raise BadRecord(f"{name} is {shown(value)}, not a text")
    if len(value) > MOST_LETTERS:
        raise BadRecord(f"{name} has {len(value):,} letters; more than {MOST_LETTERS:,} are no text to learn from")
    half = _HALF.search(value)
    if half is not None:
        around = value[max(0, half.start() - 20) : half.end() + 20]
        raise BadRecord(f"{name} has half of a surrogate pair at letter {half.start() + 1} (near {around!r})")
    return value


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a value is a text that an input can read, empty ones too."""
    try:
        checked_text(value, "")
    except BadRecord:
        return False
    return True


def prepared(text: str, settings: TextInput) -> str:
    """Prepare the text as its input wants it: cleaned, and of so many words."""
    if settings.clean is not None:
        text = CLEANERS[settings.clean](text)
    if settings.words is not None:
        text = " ".join(text.split(" ")[: settings.words])
    return text


def _albef_letters(text: str) -> str:
    plain = ALBEF_MARKS.sub("", text.lower()).replace("-", " ").replace("/", " ")
    return plain.replace("<person>", "person")

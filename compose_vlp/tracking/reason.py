"""Why nothing arrives, in a few words: what the network libraries say fills a page."""

from __future__ import annotations

import re

_LENGTH = 300
_WORDS = (
    (re.compile(r"Connection refused"), "the connection was refused"),
    (re.compile(r"timed out"), "no answer: timed out"),
    (re.compile(r"too many (\d+) error responses"), r"it answers with error \1"),
    (re.compile(r"NameResolutionError|Name or service not known"), "its name is not known"),
    (re.compile(r"sqlite3\.\w+\) ([^\n]+)"), r"\1"),
)


def reason(error: BaseException) -> str:
    """The cause of an error in a line: in our words where it is a common one, in its own otherwise."""
    message = str(error)
    for pattern, words in _WORDS:
        match = pattern.search(message)
        if match:
            return match.expand(words)
    first = (message.strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:_LENGTH]

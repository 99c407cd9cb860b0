from __future__ import annotations

import pytest

from compose_vlp.tracking.reason import reason

NETWORK = (
    "API request to http://h:1/api failed with exception HTTPConnectionPool(host='h', port=1): Max retries exceeded"
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"{NETWORK} (Caused by NewConnectionError('[Errno 111] Connection refused'))", "the connection was refused"),
        (f"{NETWORK} (Caused by ReadTimeoutError('Read timed out. (read timeout=3)'))", "no answer: timed out"),
        (f"{NETWORK} (Caused by ResponseError('too many 503 error responses'))", "it answers with error 503"),
        (f"{NETWORK} (Caused by NameResolutionError('...'))", "its name is not known"),
        (
            "(raised by autoflush)\n(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: ...]",
            "attempt to write a readonly database",
        ),
        ("line one\nline two", "ValueError: line one"),
        ("", "ValueError: "),
        ("x" * 1000, f"ValueError: {'x' * 288}"),
    ],
)
def test_a_common_cause_is_said_in_a_few_words_and_others_in_their_first_line(message: str, words: str) -> None:
    assert reason(ValueError(message)) == words

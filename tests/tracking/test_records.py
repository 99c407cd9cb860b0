from __future__ import annotations

import math

import pytest

from compose_vlp.tracking.records import Artifact, Metrics, Params, Record, StatusChange, Tags, decode, encode


@pytest.mark.parametrize(
    "record",
    [
        Metrics(3, 1_700_000_000_000, {"loss": 0.1 + 0.2, "inf": math.inf}),
        Params({"seed": "0"}),
        Tags({"x-note": "zwei\nZeilen – ü\u2028"}),
        Artifact("blueprint/resolved.yaml", "artifacts/resolved.yaml"),
        StatusChange("KILLED", 5),
    ],
)
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = encode(record)
    assert line.count(b"\n") == 1
    assert decode(line) == record


def test_a_value_that_is_not_a_number_comes_back() -> None:
    actual = decode(encode(Metrics(1, 2, {"loss": math.nan})))
    assert isinstance(actual, Metrics)
    assert math.isnan(actual.values["loss"])


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[1]", b"3", b'{"kind":"metrics"}', b'{"kind":"news","x":1}', b"\xff\xfe"]
)
def test_a_damaged_line_is_no_record(line: bytes) -> None:
    assert decode(line) is None

"""The report as people read it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from compose_vlp.compiler.figures import Figure
from compose_vlp.compiler.report_text import report_text

REPORT: dict[str, Any] = {
    "parameters": {
        "total": 120,
        "trainable": 100,
        "by_component": {"small": 20, "large": 100},
        "untrained": ["small"],
        "frozen": [],
    },
    "flops": {"batch": 8, "step": 7.5e11, "step_without_passes": 1e12, "saved_bytes": 10**9},
    "passes": [
        {"name": "prune", "calls_before": 21, "calls_after": 19, "note": "2 calls that nothing reads"},
        {"name": "dedupe", "calls_before": 19, "calls_after": 19, "note": ""},
    ],
    "values": {
        "visual": {"kind": "Sequence", "shape": ["main", 256, 768]},
        "i2t": {"kind": "Similarity", "shape": ["main", "gathered main"]},
        "picture": {"kind": "Image", "shape": ["main", 64]},
        "words": {"kind": "Text", "shape": ["main", 64, 64000]},
    },
    "memory": {"weights": 480, "gradients": 400, "optimizer": 800, "activations": 10**9},
}


def printed(report: dict[str, Any], *figures: Figure) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(report_text(report, {"large": "vit"}, figures))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(text: str, word: str) -> str:
    return " ".join(next(row for row in text.split("\n") if word in row).split())


def test_components_stand_largest_first_with_kind_and_share() -> None:
    text = printed(REPORT)
    assert line(text, "large").startswith("large vit 100 83.3 %")
    assert text.index("large") < text.index("small")
    assert "120, 83.3 % trained" in text
    assert "no loss of this stage reaches small" in text


def test_figures_of_the_paper_are_judged() -> None:
    text = printed(REPORT, Figure("encoder", ("large",), 100, "100"), Figure("decoder", ("small",), 20, "30"))
    assert line(text, "encoder") == "encoder large 100 100 ✓ +0.0%"
    assert line(text, "decoder") == "decoder small 20 30 ✗ -33.3%"


def test_shapes_are_written_with_a_symbolic_batch() -> None:
    text = printed(REPORT)
    assert line(text, "visual") == "visual Sequence B × 256 × 768"
    assert line(text, "i2t") == "i2t Similarity B × all B"
    assert line(text, "picture") == "picture Image B × 3 × 64 × 64"
    assert line(text, "words") == "words Text B × 64"


def test_work_tells_what_the_passes_save() -> None:
    assert line(printed(REPORT), "FLOP") == "work 750 GFLOP 25.0 % less than the 1.00 TFLOP without passes"
    unmeasured = {**REPORT, "flops": {**REPORT["flops"], "step_without_passes": None}}
    assert "less than" not in printed(unmeasured)


def test_passes_tell_calls_and_what_they_did() -> None:
    text = printed(REPORT)
    assert line(text, "prune") == "prune 21 → 19 2 calls that nothing reads"
    assert line(text, "dedupe") == "dedupe 19 nothing to do here"


def test_nothing_is_said_of_what_is_not_there() -> None:
    text = printed({**REPORT, "passes": []})
    assert "Beside the paper" not in text
    assert "Passes" not in text

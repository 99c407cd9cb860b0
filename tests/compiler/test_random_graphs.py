"""Random graphs over all kinds: every pass on, all off, and each alone off keep losses, gradients and state.

`RANDOM_GRAPHS=2000 pytest tests/compiler/test_random_graphs.py` tries so many, each time others.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_tokenizers
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.graph import CheckedBlueprint
from tests.compiler.random_graphs import RandomGraph, Recorder, ragged
from tests.compiler.sameness import CHOICES, NONE, assert_same, outcome

pytestmark = pytest.mark.usefixtures("small_chunks")

MANY = int(os.environ.get("RANDOM_GRAPHS", "0"))


def checked(text: str) -> CheckedBlueprint | None:
    """The blueprint, None where it has a mistake."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.yaml"
        file.write_text(text)
        try:
            return Blueprint.load(file).check()
        except BlueprintError as error:
            note(str(error))
            return None


@settings(
    max_examples=MANY or 8, derandomize=not MANY, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
@given(st.integers(0, 2**40))
def test_passes_keep_losses_gradients_and_state(seed: int) -> None:
    random = Random(seed)
    text = RandomGraph(random).text()
    note(text)
    blueprint = checked(text)
    assume(blueprint is not None)
    assert blueprint is not None
    model = build(blueprint, seed=1).double()
    model.tokenizers = synthetic_tokenizers(blueprint)
    model.start_teachers(list(model.worlds))
    frozen = {name for name in blueprint.components if random.random() < 0.2}
    for name, component in model.components.named_children():
        if name in frozen:
            component.requires_grad_(False)
    plain = compile_stage(blueprint, "train", trainable=lambda name: name not in frozen, without=NONE)
    batch = ragged(plain, random)
    recorder = Recorder(blueprint.constants_and_starts())
    expected = outcome(model, plain, batch, recorder)
    step = Step(recorder.params, choices=recorder.choices)
    for without in CHOICES:
        compiled = compile_stage(blueprint, "train", trainable=lambda name: name not in frozen, without=without)
        note(compiled.source)
        assert_same(outcome(model, compiled, batch, step), expected, f"without {without}")

"""A tower's last layer at the positions that are read: the same losses and gradients, and less work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import Compiled, compile_plan, compile_stage
from compose_vlp.compiler.flops import FlopCounter
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.layers.attention import Linear, Scope, SelfAttention
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.plugins import load_plugin
from compose_vlp.values import Part, Text
from compose_vlp.values.chosen import Chosen, Run, choose_positions
from tests.compiler.sameness import assert_same, outcome
from tests.components.test_promises import CASES
from tests.models import TINY
from tests.support import assert_near, in_float64

VLMO = (
    *(f"components.{name}.width=16" for name in ("patches_of", "words_of")),
    *(f"components.{name}.{key}" for name in ("lower", "upper")
      for key in ("heads=2", "drop_path=0", "positions.frame=40")),
    "components.lower.depth=2", "components.words_of.dropout=0", "inputs.image.size=64", "inputs.caption.max_length=12",
    *(f"components.{name}.out=16" for name in ("image_proj", "text_proj", "image_vl", "text_vl")),
    "components.bert={use: ids, vocab_size: 60, begin: '1', pad: '0', mask: '3'}",
    "components.masker.whole_words=false", "stages.language.set={}",
)  # fmt: skip


def program(checked: CheckedBlueprint, stage: str, *without: str) -> Compiled:
    return compile_stage(checked, stage, without=without)


def ragged(compiled: Compiled) -> dict[str, Any]:
    torch.manual_seed(4)
    batch = in_float64(synthetic_batch(compiled.plan, 4, "cpu"))
    for name, text in batch.items():
        if isinstance(text, Text):
            frame = text.ids.shape[1]
            lengths = torch.tensor([frame, 5, 7, 3])
            batch[name] = Text(text.ids * (torch.arange(frame) < lengths[:, None]), lengths, text.frame)
    return batch


@pytest.mark.parametrize(
    ("name", "stage", "overrides"),
    [("tiny/albef", "pretrain", TINY), ("tiny/blip", "pretrain", TINY), ("vlmo_base", "pairs", VLMO),
     ("vlmo_base", "language", VLMO)],
)  # fmt: skip
def test_losses_and_gradients_stay_and_work_falls(name: str, stage: str, overrides: tuple[str, ...]) -> None:
    checked = Blueprint.load(name, overrides=overrides).check()
    model = build(checked, seed=3).double()
    model.tokenizers = synthetic_tokenizers(checked)
    model.start_teachers(list(model.worlds))
    on, off = program(checked, stage), program(checked, stage, "last_layer")
    assert "read=" in on.source and "read=" not in off.source
    batch, step = ragged(off), Step(checked.constants_and_starts())
    if name.startswith("tiny"):
        for component in model.modules():
            for noise in ("dropout", "drop_path"):
                if isinstance(getattr(component, noise, None), float):
                    setattr(component, noise, 0.0)
            if isinstance(component, nn.Dropout):
                component.p = 0.0
    actual, expected = (outcome(model, compiled, batch, step) for compiled in (on, off))
    assert_same(actual, expected, name)
    work = []
    for compiled in (on, off):
        with FlopCounter() as counter:
            outcome(model, compiled, batch, step)
        work.append(counter.total)
    assert work[0] < 0.99 * work[1]


def test_cls_and_chosen_words_alone_are_read_and_contexts_are_whole() -> None:
    source = program(Blueprint.load("tiny/albef", overrides=TINY).check(), "pretrain").source
    assert "m.vision(image)" in source, "a picture that is a context is read whole"
    assert "read=[['cls', 'language']]" in source and "read=[['at', ''," in source
    both = program(Blueprint.load("vlmo_base", overrides=VLMO).check(), "pairs").source
    assert "read=[['at', 'language', losses_mlm_at]]" in both or "read=[['at', 'language'," in both
    assert both.count("read=[['cls', 'vision']]") == 2, "with its own expert and with the pair's"
    assert "m.lower(patches)" in both


def test_what_an_output_gives_is_read_whole() -> None:
    checked = Blueprint.load("vlmo_base", overrides=VLMO).check()
    call = next(call for call in checked.plan.calls if call.id == checked.values["joint"].call)
    compiled = compile_plan(checked, "seen", {"joint": checked.values["joint"], "match": checked.values["matched"]})
    assert call.target == "upper" and "read=" not in compiled.source


def test_a_mean_of_all_patches_reads_them_all() -> None:
    mean = "image_embedding=normalize(image_proj(mean(upper(v))))"
    checked = Blueprint.load("vlmo_base", overrides=(*VLMO, mean)).check()
    source = program(checked, "pairs").source
    assert source.count("read=[['cls', 'vision']]") == 1, "the pair's expert alone"


# --- towers, each with its gradients --------------------------------------------------------------------------------


def towers() -> list[tuple[str, int]]:
    kinds = [name for name in CASES if registry.get(name).traits.last_layer]
    assert {
        "vit",
        "bert_encoder",
        "text_decoder",
        "causal_decoder",
        "cross_attention_fuser",
        "multiway_transformer",
    } <= set(kinds)
    return [(name, number) for name in kinds for number in range(len(CASES[name]))]


@pytest.mark.parametrize("positions", [None, "rotary"])
@pytest.mark.parametrize(("name", "number"), towers())
def test_gradients_of_what_is_read_are_those_of_the_whole_result(name: str, number: int, positions: str | None) -> None:
    torch.manual_seed(0)
    case, kind = CASES[name][number], registry.get(name)
    if positions and case.settings.get("positions", "learned") != "learned":
        pytest.skip("has positions of another kind")
    if positions and name == "multiway_transformer" and len(case.settings) > 3:
        pytest.skip("one case of it is enough")
    settings = {**case.settings, **({"positions": positions, "heads": 1} if positions else {})}
    tower = kind.implementation(kind.implementation.Config.model_validate(settings)).double().eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.5)
    arguments = in_float64(case.arguments())
    whole = tower(**arguments)
    part = whole.parts[-1]
    flat = torch.tensor([0, 1, 2, part.length + 1])
    reads: list[list[Any]] = [["at", part.name, flat], ["at", part.name, flat[1:2]]]
    rows, places = flat // part.length, flat % part.length + part.start
    seen = torch.zeros(whole.features.shape[:2], dtype=torch.double)
    seen[rows, places] = torch.tensor([1.0, 2, 3, 4], dtype=torch.double)
    for piece in whole.parts:
        if piece.cls != "none":
            reads.append(["cls", piece.name])
            seen[:, piece.start if piece.cls == "first" else piece.start + piece.length - 1] += 1
    outcomes = []
    for result in (whole, tower(**arguments, read=reads)):
        tower.zero_grad()
        (torch.sin(result.features) * seen[..., None]).sum().backward()
        outcomes.append({n: p.grad for n, p in tower.named_parameters() if p.grad is not None})
    expected, actual = outcomes
    assert actual.keys() == expected.keys()
    for path, gradient in expected.items():
        assert (actual[path] - gradient).norm() <= 1e-9 * (gradient.norm() + 1), path


def test_positions_are_chosen_once_however_often_they_are_read_and_rows_may_have_fewer() -> None:
    part, x = Part("language", 0, 5, "first"), torch.randn(3, 5, 2, dtype=torch.double)
    chosen = choose_positions([["cls", "language"], ["at", "language", torch.tensor([0, 2, 2, 13])]], (part,), x)
    assert chosen is not None and chosen.index.tolist() == [[0, 2], [0, 5], [0, 3]]
    kept = chosen.spread(chosen.of(x))
    expected = torch.zeros_like(x)
    for row, place in ((0, 0), (0, 2), (1, 0), (2, 0), (2, 3)):
        expected[row, place] = x[row, place]
    assert torch.equal(kept, expected)


def test_a_batch_of_which_nothing_is_read_is_no_mistake() -> None:
    x = torch.randn(2, 4, 2)
    chosen = choose_positions([["at", "", torch.empty(0, dtype=torch.long)]], (Part("language", 0, 4),), x)
    assert chosen is not None and chosen.of(x).shape == (2, 1, 2)
    assert not chosen.spread(chosen.of(x)).any()


def test_experts_get_the_positions_of_their_runs() -> None:
    parts = (Part("language", 0, 4, "first"), Part("vision", 4, 3, "first"))
    runs = (Run("language", 0, 4), Run("vision", 4, 7))
    x = torch.randn(2, 7, 2)
    chosen = choose_positions([["cls", "vision"], ["at", "language", torch.tensor([1, 2, 7])]], parts, x, runs)
    assert chosen is not None and chosen.runs == (Run("language", 0, 2), Run("vision", 2, 3))
    assert chosen.index.tolist() == [[1, 2, 4], [3, 7, 4]]
    alone = choose_positions([["cls", "vision"]], parts, x, runs)
    assert alone is not None and alone.runs == (Run("vision", 0, 1),) and alone.index.tolist() == [4]


def test_of_the_meta_device_all_positions_of_a_part_count_whose_words_are_chosen() -> None:
    parts, x = (Part("language", 0, 4, "first"), Part("vision", 4, 3)), torch.empty(2, 7, 2, device="meta")
    chosen = choose_positions([["at", "language", torch.empty(6, dtype=torch.long, device="meta")]], parts, x)
    assert chosen is not None and chosen.index.shape == (4,)


class Adapted(Linear):
    """A map that computes something besides."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_queries_are_mapped_with_keys_and_values_where_something_stands_in_the_place_of_their_map() -> None:
    torch.manual_seed(0)
    attention, x = SelfAttention(8, 2).double(), torch.randn(2, 5, 8, dtype=torch.double)
    chosen = Chosen(torch.tensor([1, 3]), 5, (Run("", 0, 2),))
    for adapted in (False, True):
        if adapted:
            attention.qkv = Adapted(8, 24).double()
        assert attention.parts_apart is not adapted
        assert_near(attention(x, Scope(), chosen), attention(x, Scope())[:, [1, 3]])


# --- declarations -----------------------------------------------------------------------------------------------------

TOWER = """
from typing import Annotated
from torch import nn
from compose_vlp.registry import ALL, Settings, component, inferred
from compose_vlp.values import Sequence

@component("my_tower", rows="independent", state="none", draws="none", last_layer=True)
class MyTower(nn.Module):
    class Config(Settings):
        width: int = inferred()

    def __init__(self, config):
        super().__init__()
        self.map = nn.Linear(config.width, config.width)

    def forward(
        self, x: Annotated[Sequence, "rows tokens width", ALL]{more}
    ) -> Annotated[Sequence, "rows tokens width"]:
        return x.with_features(self.map(x.features){less})
"""


def test_a_tower_that_promises_it_takes_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "tower.py").write_text(TOWER.format(more="", less=""))
    with pytest.raises(UserError, match="the argument `read` of forward goes with last_layer=True"):
        load_plugin(tmp_path / "tower.py")


def test_a_tower_that_gives_something_else_where_it_is_read_is_caught(tmp_path: Path) -> None:
    (tmp_path / "tower.py").write_text(TOWER.format(more=", *, read=None", less=" * (1 if read is None else 2)"))
    load_plugin(tmp_path / "tower.py")
    overrides = (*TINY, "+components.mine={use: my_tower}", "image_embedding=normalize(image_proj(mine(v).cls))")
    checked = Blueprint.load("tiny/albef", overrides=overrides).check()
    with pytest.raises(UserError, match="last_layer: `read` gives other features than the whole result"):
        compile_stage(checked, "pretrain")

"""Inner parts of towers: one override reaches every tower of every paper, and plugins offer more of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.components.ffns.swiglu import SwiGLU
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.slots import Place

Load = Callable[..., Blueprint]
PAPERS = ("tiny/coca", "tiny/albef", "tiny/blip")
TOWERS = ("vit", "bert_encoder", "text_decoder", "causal_decoder", "cross_attention_fuser")

DOUBLED = """
from torch import nn
from compose_vlp.registry import Settings, fills


@fills("doubled", slot="ffn", rows="{rows}", state="none", draws="none")
class Doubled(nn.Module):
    class Config(Settings):
        times: float = 2.0

    def __init__(self, config, place):
        super().__init__()
        self.times = config.times
        self.map = nn.Linear(place.width, place.width)

    def forward(self, x):
        return self.times * self.map(x)
"""


def gradients(checked: CheckedBlueprint) -> dict[str, torch.Tensor]:
    """The gradients of one step on synthetic rows, by parameter."""
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, seed=1).train()
    model.tokenizers = synthetic_tokenizers(checked)
    model.start_teachers(list(checked.teachers))
    batch = synthetic_batch(compiled.plan, 4, "cpu")
    losses = model(compiled.run, batch, Step(checked.constants_and_starts()))
    sum(loss.value for loss in losses.values()).backward()
    return {name: p.grad for name, p in model.components.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(
    ("override", "weight"),
    [
        ("components.*.ffn=swiglu", "ffn.branch.gate_value.weight"),
        ("components.*.norm=rms_norm", "ffn.norm.weight"),
        ("components.*.positions=rotary", "self_attention.branch.qkv.weight"),
    ],
)
def test_one_override_reaches_every_tower_of_every_paper(paper: str, override: str, weight: str) -> None:
    checked = Blueprint.load(paper, overrides=[override, "components.vision.stem_depth=0"]).check()
    towers = {name for name, part in checked.components.items() if part.kind.name in TOWERS}
    moved = gradients(checked)
    reached = {name.split(".")[0] for name in moved if name.endswith(weight)}
    owners = {name for name in towers if not dict(checked.components[name].share)}
    assert owners <= reached, "a tower that shares nothing has the part, and learns"
    if "rotary" in override:
        assert not [name for name in moved if name.endswith("positions")], "no tower has a table"
    if "norm" in override:
        assert not [name for name in moved if name.endswith(("self_attention.norm.bias", "ffn.norm.bias"))]


def test_the_default_by_name_is_the_default(small_coca: Load) -> None:
    plain = build(small_coca().check(), seed=3).state_dict()
    named = build(small_coca("components.*.ffn=mlp", "components.*.norm={use: layer_norm}").check(), seed=3)
    assert plain.keys() == named.state_dict().keys()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in named.state_dict().items())


def test_settings_of_a_part_may_stand_without_its_name(small_coca: Load) -> None:
    checked = small_coca("components.vision.ffn={use: swiglu, bias: false}").check()
    assert not [name for name, _ in build(checked).named_parameters() if "vision" in name and "out.bias" in name][1:]
    with pytest.raises(BlueprintError, match="no field is called `bias`"):
        small_coca("components.vision.ffn={bias: false}").check()


def test_swiglu_is_its_formula_and_has_as_many_weights_as_an_mlp() -> None:
    part = SwiGLU(SwiGLU.Config(), Place(96)).double()
    x = torch.randn(2, 5, 96, dtype=torch.float64)
    gate, value = part.gate_value.weight.chunk(2)
    hidden = torch.nn.functional.silu(x @ gate.T) * (x @ value.T)  # biases begin at 0
    torch.testing.assert_close(part(x), hidden @ part.out.weight.T)
    weights = sum(p.numel() for p in part.parameters() if p.dim() == 2)
    assert weights == 8 * 96 * 96
    geglu = SwiGLU(SwiGLU.Config(), Place(96, activation="gelu")).double()
    geglu.load_state_dict(part.state_dict())
    hidden = torch.nn.functional.gelu(x @ gate.T) * (x @ value.T)
    torch.testing.assert_close(geglu(x), hidden @ part.out.weight.T)


@pytest.mark.parametrize(
    ("value", "mark", "message", "hint"),
    [
        ("swiglo", "swiglo", "no kind for `ffn` is called `swiglo`", "did you mean 'swiglu'?"),
        ("{use: rms_norm}", "rms_norm", "no kind for `ffn` is called `rms_norm`", "there are: "),
        ("{use: swiglu, biass: true}", "biass", "no field is called `biass`", "did you mean 'bias'?"),
        ("{use: swiglu, bias: 3}", "3", "`bias` cannot be `3`: expected `true` or `false`", ""),
        ("[mlp]", "[mlp]", "`ffn` is the name of a kind, or a mapping of its settings, not a list", ""),
        ("{use: [mlp]}", "[mlp]", "the `use` of `ffn` is one name", ""),
        ("{use: moe, inner: swiglo}", "swiglo", "no kind for `ffn` is called `swiglo`", "did you mean 'swiglu'?"),
        (
            "{use: moe, inner: moe}",
            "moe}",
            "`inner: moe` has auxiliary losses of its own, which no expert may have",
            "",
        ),
        ("{use: moe, top: 9}", "9", "`top` 9 is more than there are experts, 8", ""),
    ],
)
def test_mistakes_in_a_slot_are_pointed_at(small_coca: Load, value: str, mark: str, message: str, hint: str) -> None:
    override = f"components.vision.ffn={value}"
    with pytest.raises(BlueprintError) as caught:
        small_coca(override).check()
    (problem,) = caught.value.problems
    assert problem.message == message and problem.span is not None
    begin = override.index(mark, len("components.vision.ffn="))
    assert override[problem.span.column - 1 : problem.span.end_column - 1] == mark or problem.span.column == begin + 1
    assert any(line.startswith(hint) for line in problem.hints) or not hint


def test_an_inner_part_is_no_component(small_coca: Load) -> None:
    with pytest.raises(BlueprintError, match="`swiglu` is a slot, not a component"):
        small_coca("+components.mixed={use: swiglu}").check()


def test_a_plugins_part_fills_every_tower(tmp_path: Path, small_coca: Load) -> None:
    file = tmp_path / "doubled.py"
    file.write_text(DOUBLED.format(rows="independent"))
    checked = small_coca("components.*.ffn={use: doubled, times: 3}", plugins=[file]).check()
    assert checked.components["vision"].kind.traits.rows == "independent"
    assert "vision.layers.0.ffn.branch.map.weight" in gradients(checked)
    assert VisionTransformer.Config(ffn="doubled").ffn.settings.model_dump() == {"times": 2.0}


def test_a_tower_promises_no_more_than_its_parts(tmp_path: Path, small_coca: Load) -> None:
    file = tmp_path / "mixing.py"
    file.write_text(DOUBLED.format(rows="batch").replace('"doubled"', '"mixing"'))
    checked = small_coca("components.vision.ffn=mixing", plugins=[file]).check()
    assert checked.components["vision"].kind.traits.rows == "batch"
    assert checked.components["unimodal"].kind.traits.rows == "independent"

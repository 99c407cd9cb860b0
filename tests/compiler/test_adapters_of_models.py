"""What adapters mean for the rest of a model: sharing, teachers, stages, passes, foreign towers, and every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.adapting import Adapted, adapted_maps
from compose_vlp.compiler.compile import compile_stage, kinds_that_hold
from compose_vlp.compiler.model import Step, build, fingerprint
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.picture.of_blueprint import diagram_of
from compose_vlp.runtime.optimizer import make_optimizer, parameter_paths
from compose_vlp.runtime.stage import Scale, Values, optimizer_of
from compose_vlp.training import sizes
from tests.support import assert_near
from tests.tiny_papers import tiny_paper

Load = Callable[..., Blueprint]
LORA = '+adapters.lora={use: lora, match: "**.self_attention", rank: 4}'


def problems_of(blueprint: Blueprint) -> list[tuple[str, str, str]]:
    """Each mistake as the text under its caret, its message and its hints."""
    with pytest.raises(BlueprintError) as caught:
        blueprint.check()
    lines = blueprint.document.lines()
    actual = []
    for problem in caught.value.problems:
        assert problem.span is not None, problem
        line = lines[problem.span.file][problem.span.line - 1]
        actual.append(
            (line[problem.span.column - 1 : problem.span.end_column - 1], problem.message, "; ".join(problem.hints))
        )
    return actual


@pytest.mark.parametrize(
    ("written", "place", "message", "hint"),
    [
        ('{use: lora, match: "**.self_atention"}', '"**.self_atention"',
         "`**.self_atention` names no linear map", "did you mean 'self_attention'"),
        ("{use: lora, match: vision.layer}", "vision.layer",
         "`vision.layer` names no linear map", "did you mean 'layers'?"),
        ("{use: lora, match: unimodal.embedding}", "unimodal.embedding",
         "`unimodal.embedding` names no linear map", "`unimodal` has layers"),
        ("{use: lora, match: visio}", "visio", "`visio` matches nothing: no component is called `visio`", "'vision'"),
        ('{use: lora, match: vision, except: "**.qkw"}', '"**.qkw"',
         "`**.qkw` names no linear map of those that match", "did you mean 'qkv'?"),
        ("{use: lora, match: vision, except: vision}", "lora", "`except` leaves no linear map to adapter `lora`", ""),
        ("{use: lora, match: vision, rank: 33}", "33", "adapter `lora`: `rank` 33 is more than a map of 32 to 96 has",
         "it is for `vision.layers.0.self_attention.branch.qkv`"),
        ("{use: lora, match: vision, rank: 0}", "0", "`rank` should be greater than 0; it is `0`", ""),
        ("{use: lora, match: vision, dropout: 1}", "1", "`dropout` should be less than 1; it is `1`", ""),
        ("{use: lora, match: vision, alpha: -2}", "-2", "`alpha` should be greater than 0; it is `-2`", ""),
        ("{use: lora, match: vision, rnk: 3}", "rnk", "`lora` has no setting `rnk`", "did you mean 'rank'?"),
        ("{use: lora, rank: 3}", "lora", "`match` is missing", "patterns of linear maps"),
        ("{use: lora, match: []}", "[]", "an empty list names nothing: leave the key out", ""),
        ("{use: lor, match: vision}", "lor", "no adapter is called `lor`", "did you mean 'lora'?"),
        ("{use: vit, match: vision}", "vit", "`vit` is a component, not an adapter", "stand in `components`"),
        ("{use: lora, match: null}", "null", "`null` matches nothing: no component is called `null`", ""),
        ("{use: lora, match: {a: b}}", "{a: b}", "`match` is a list or one value, not a mapping", ""),
        ('{use: lora, match: "vision.**.bias"}', '"vision.**.bias"', "`vision.**.bias` names no linear map", ""),
        ("{match: vision}", "lora", "`lora` does not say what it is: `use` is missing", "adapters there are: lora"),
    ],
)  # fmt: skip
def test_mistakes_are_pointed_at(small_coca: Load, written: str, place: str, message: str, hint: str) -> None:
    ((where, text, hints),) = problems_of(small_coca(f"+adapters.lora={written}"))
    assert (where, text) == (place, message) or (place == "lora" and where.endswith("adapters.lora"))
    assert text == message and hint in hints


def test_a_map_has_one_adapter(small_coca: Load) -> None:
    second = "+adapters.more={use: lora, match: [unimodal, vision.layers.0]}"
    ((where, message, hints),) = problems_of(small_coca(LORA, second))
    assert where.endswith("adapters.more")
    assert message.startswith("adapters `lora` and `more` are both for `vision.layers.0.self_attention.branch.qkv`, ")
    assert "`except` leaves maps out" in hints
    apart = '+adapters.more={use: lora, match: [unimodal, vision.layers.0], except: "**.self_attention"}'
    counts = build(small_coca(LORA, apart).check(), "meta").component_parameters()
    assert counts["adapters.lora"] > 0 and counts["adapters.more"] > 0


@pytest.mark.parametrize("name", ["vision", "lora2", "down", "über"])
def test_an_adapter_may_have_any_other_name(small_coca: Load, name: str) -> None:
    checked = small_coca(f"+adapters.{name}={{use: lora, match: vision, rank: 2}}").check()
    model = build(checked, seed=0)
    maps = adapted_maps(model.parts()["vision"])
    assert maps and all(
        adapted.adapter_name == name and adapted.path == f"vision.{path}" for path, adapted in maps.items()
    )
    assert all(adapted.get_parameter(f"{name}.up") is adapted.adapter.get_parameter("up") for adapted in maps.values())
    assert next(iter(maps.values()))(torch.randn(2, 32)).shape == (2, 96)


@pytest.mark.parametrize("name", ["weight", "forward", "std", "in_features", "adapter", "path", "own_weight"])
def test_an_adapter_is_not_called_as_what_a_map_has(small_coca: Load, name: str) -> None:
    ((_, message, _),) = problems_of(small_coca(f"+adapters.{name}={{use: lora, match: vision}}"))
    assert message == f"adapter `{name}`: linear maps have something of their own that is called `{name}`"


def test_a_map_that_computes_something_of_its_own_is_refused(tmp_path: Path, small_coca: Load) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from torch import nn\nfrom compose_vlp.registry import Settings, fills\n"
        "class Odd(nn.Linear):\n    def forward(self, x):\n        return super().forward(x).relu()\n"
        "@fills('odd', slot='ffn')\nclass Part(nn.Module):\n    class Config(Settings):\n        pass\n"
        "    def __init__(self, config, place):\n        super().__init__()\n"
        "        self.map = Odd(place.width, place.width)\n"
        "    def forward(self, x):\n        return self.map(x)\n"
    )  # fmt: skip
    adapter = '+adapters.lora={use: lora, match: "vision.**.ffn"}'
    ((_, message, hints),) = problems_of(small_coca("components.vision.ffn=odd", adapter, plugins=[file]))
    assert message == "adapter `lora`: `Odd` computes something of its own, and is no plain linear map"
    assert "`vision.layers.0.ffn.branch.map`" in hints and "`except` leaves maps out" in hints


def adapted_albef(folder: Path) -> Path:
    """A file that adapts tiny ALBEF."""
    file = folder / "adapted.yaml"
    file.write_text(
        "extends: tiny/albef\nparams: {r: 4}\n"
        'adapters:\n  lora: {use: lora, match: [vision, text], except: "**.ffn", rank: $r}\n'
        "  heads: {use: lora, match: mlm_head.transform, rank: 1}\n"
    )
    return file


def test_settings_are_overridden_and_read_from_params(tmp_path: Path) -> None:
    file = adapted_albef(tmp_path)
    overrides = ["r=2", "adapters.*.dropout=0.1", "adapters.lora.match=text", "adapters.heads.alpha=3"]
    checked = Blueprint.load(file, overrides=overrides).check()
    lora, heads = checked.adapters["lora"], checked.adapters["heads"]
    assert (lora.config.rank, lora.config.dropout, lora.config.alpha) == (2, 0.1, None)
    assert (lora.match, lora.but, heads.config.alpha, heads.config.dropout) == (("text",), ("**.ffn",), 3, 0.1)
    assert set(Blueprint.load(file, overrides=["~adapters.lora"]).check().adapters) == {"heads"}


def test_a_child_changes_a_field_and_what_names_nothing_goes(tmp_path: Path) -> None:
    adapted_albef(tmp_path)
    child = tmp_path / "child.yaml"
    child.write_text("extends: adapted.yaml\nadapters:\n  lora: {rank: 2}\n")
    checked = Blueprint.load(child).check()
    assert checked.adapters["lora"].config.rank == 2 and checked.adapters["lora"].match == ("vision", "text")
    task = Blueprint.load(child, "tasks/entailment")
    assert set(task.check().adapters) == {"lora"}, "its head is gone, and with it the adapter"
    assert any("leaves no linear map to adapter `heads`" in note for note in task.notes)
    child.write_text("extends: adapted.yaml\nadapters:\n  heads: {match: [mlm_head, image_proj]}\n")
    task = Blueprint.load(child, "tasks/entailment")
    assert task.check().adapters["heads"].match == ("image_proj",)


def test_maps_that_share_a_weight_share_the_adapter_whichever_is_named() -> None:
    for pattern in ("text", "decoder", "[text, decoder]"):
        blueprint = tiny_paper(
            "BLIP", f"+adapters.lora={{use: lora, match: {pattern}, rank: 2, except: '**.cross_attention'}}"
        )
        model = build(blueprint.check(), seed=0)
        text, decoder = (adapted_maps(model.parts()[name]) for name in ("text", "decoder"))
        shared = {path for path in text.keys() & decoder.keys() if text[path].own_weight is decoder[path].own_weight}
        assert shared, "BLIP's decoder shares all but self-attention"
        for path in shared:
            assert text[path].adapter is decoder[path].adapter
        named = {path for path in decoder if "self_attention" in path}
        assert bool(named) == ("decoder" in pattern), "what is its own is adapted where it is named"


def test_a_teacher_has_adapters_that_follow() -> None:
    model = build(tiny_paper("ALBEF", LORA).check(), seed=0)
    model.start_teachers(["momentum"])
    student, teacher = model.components.get_submodule("vision"), model.teachers.get_submodule("momentum.vision")
    student_maps, teacher_maps = adapted_maps(student), adapted_maps(teacher)
    assert student_maps.keys() == teacher_maps.keys() and student_maps
    path = next(iter(student_maps))
    with torch.no_grad():
        student_maps[path].adapter.up.normal_()  # type: ignore[operator, union-attr]
    model.update_teachers("before")
    decay = model.teachers.get_submodule("momentum").decay
    assert isinstance(decay, float) and decay < 1
    up = student_maps[path].adapter.state_dict()["up"]
    assert_near(teacher_maps[path].adapter.state_dict()["up"], (1 - decay) * up)
    assert torch.equal(teacher_maps[path].own_weight, student_maps[path].own_weight), (
        "what is equal stays equal, bit for bit"
    )
    assert teacher_maps[path].adapter is not student_maps[path].adapter


def test_a_teacher_is_adapted_by_its_student_alone() -> None:
    ((_, message, _),) = problems_of(tiny_paper("ALBEF", "+adapters.lora={use: lora, match: momentum.vision, rank: 2}"))
    assert message == "`momentum.vision` names no linear map"


def test_adapters_with_noise_are_called_again_and_those_without_are_not(small_coca: Load) -> None:
    def promised(*overrides: str) -> dict[str, str]:
        checked = small_coca(*overrides).check()
        kinds, _ = kinds_that_hold(checked, checked.plan)
        return {call.target: kinds[call.id].traits.draws for call in checked.plan.calls if call.id in kinds}

    plain, quiet = promised(), promised(LORA)
    assert quiet == plain
    noisy = promised('+adapters.lora={use: lora, match: "vision.**", dropout: 0.1}')
    assert noisy.pop("vision") == "noise"
    assert noisy.items() <= plain.items(), "no other component promises less"


def test_a_stage_may_set_what_an_adapter_computes_and_not_its_weights(small_coca: Load) -> None:
    more = "+stages.later={data: pairs, losses: [captioning], length: 1 steps, batch: 2, set: {%s}}"
    checked = small_coca(LORA, more % "adapters.lora.alpha: 16, adapters.lora.dropout: 0.1").check()
    assert checked.of_stage("later").adapters["lora"].config.alpha == 16
    for written in ("adapters.lora.rank: 2", "adapters.lora.match: vision"):
        ((_, message, _),) = problems_of(small_coca(LORA, more % written))
        assert message.startswith("stage `later` changes the weights of adapters: ")
    ((_, message, _),) = problems_of(small_coca(LORA, more % "adapters.lora.rank: 100"))
    assert "`rank` 100 is more than a map of" in message


def test_counts_and_memory_are_those_of_what_is_trained(small_coca: Load) -> None:
    plain, adapted = small_coca().report(), small_coca(LORA, 'stages.*.train=["**.lora"]').report()
    own = adapted.parameters["by_component"].pop("adapters.lora")
    assert adapted.parameters["by_component"] == plain.parameters["by_component"]
    assert adapted.parameters["total"] == plain.parameters["total"] + own
    assert adapted.memory["optimizer"] == 8 * adapted.parameters["trainable"]
    assert 0 < adapted.parameters["trainable"] <= own
    assert adapted.flops["step"] < plain.flops["step"], "no gradient of the maps' own weights is computed"


def test_a_picture_tells_of_adapters_where_they_are(small_coca: Load) -> None:
    checked = small_coca('+adapters.lora={use: lora, match: "vision.**.self_attention", rank: 4}').check()
    diagram = diagram_of(checked, sizes(checked))
    notes = {box.twin: dict(rows) for box in diagram.boxes for heading, rows in box.details if heading == "Adapters"}
    depth = checked.components["vision"].config.depth
    assert notes == {"vision": {"lora": f"lora on {2 * depth} linear maps: rank 4, dropout 0.0"}}


def test_noise_is_refused_where_a_tower_reads_weights_past_its_maps() -> None:
    adapter = '+adapters.lora={use: lora, match: "vision.**.qkv", dropout: 0.1, rank: 2}'
    blueprint = Blueprint.load("tiny/coca", overrides=[TIMM % "beit_base_patch16_224", adapter])
    with pytest.raises(UserError, match="is read past the map, where 'lora' cannot draw its noise") as caught:
        blueprint.report()
    (problem,) = caught.value.problems
    assert problem.hints == ("`adapters.lora.dropout=0`, or `except` leaves the map as it is",)
    assert problem.span is not None
    assert adapter[problem.span.column - 1 : problem.span.end_column - 1] == "0.1"


def test_rules_of_the_optimizer_name_adapters(small_coca: Load) -> None:
    rule = 'optimizer.rules=[{match: "**.lora", weight_decay: 0, lr_scale: 2}, {match: "**.lora.up", lr_scale: 4}]'
    checked = small_coca(LORA, rule).check()
    parts = build(checked, "meta").parts()
    paths = parameter_paths(parts)
    assert checked.optimizer is not None
    how = optimizer_of(checked.optimizer, Values(checked.params, Scale(8, 8, 10)), parts)
    groups = {id(p): group for group in make_optimizer(paths, how).torch.param_groups for p in group["params"]}
    decays = {path: groups[id(parameter)]["weight_decay"] for path, parameter in paths.items()}
    assert {decay for path, decay in decays.items() if ".lora." in path} == {0}
    assert {decay for path, decay in decays.items() if ".lora." not in path} != {0}


def test_adapters_are_part_of_what_a_checkpoint_must_fit(small_coca: Load) -> None:
    rank_four, rank_two = (fingerprint(small_coca(written).check()) for written in (LORA, LORA.replace("4", "2")))
    assert rank_four != rank_two and rank_four["adapters.lora"]["rank"] == 4


TIMM = "components.vision={use: timm, model: %s, options: {embed_dim: 32, depth: 1, num_heads: 4}}"
OPT = "{hidden_size: 32, word_embed_proj_dim: 32, num_hidden_layers: 1, num_attention_heads: 2, ffn_dim: 48}"
TEXT = (
    f"components.unimodal={{use: transformers, model: opt, options: {OPT}}}",
    "text_embedding=normalize(text_proj(mean(words)))",
    "joint=multimodal(words, context=visual)",
)


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ((TIMM % "vit_tiny_patch16_224",), "vision.model.blocks.0.attn.qkv"),
        ((TIMM % "beit_base_patch16_224",), "vision.model.blocks.0.attn.qkv"),
        (TEXT, "unimodal.model.decoder.layers.0.self_attn.q_proj"),
    ],
    ids=["timm", "timm reads the weight past the map", "transformers"],
)
def test_maps_of_foreign_towers_are_adapted(overrides: tuple[str, ...], path: str) -> None:
    part, _, inner = path.partition(".")
    adapter = f'+adapters.lora={{use: lora, match: "{part}.**.{inner.rpartition(".")[2]}", rank: 2}}'
    checked = Blueprint.load("tiny/coca", overrides=[*overrides, adapter]).check()
    model, compiled = build(checked, seed=0), compile_stage(checked, "pretrain")
    up = adapted_maps(model.parts()[part])[inner].adapter.get_parameter("up")
    model.tokenizers = synthetic_tokenizers(checked)
    losses = model(compiled.run, synthetic_batch(compiled.plan, 3, "cpu"), Step(checked.constants_and_starts()))
    torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert up.grad is not None and up.grad.abs().sum() > 0


PLUGIN = """
import torch
from torch import nn
from torch.nn import functional as F
from compose_vlp.adapters import MapSizes
from compose_vlp.registry import Settings, adapter


@adapter("mine", {promises})
class Mine(nn.Module):
    class Config(Settings):
        size: int = 1

    def __init__(self, config, sizes: MapSizes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(sizes.outputs))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x, weight, bias):
        {body}
{merged}
"""
KEPT = 'rows="independent", state="none", draws="none"'
SCALED = "return F.linear(x, weight, bias) * self.scale"


def plugin(folder: Path, body: str = SCALED, promises: str = KEPT, merged: str = "") -> Path:
    file = folder / f"mine_{abs(hash(body + merged)) % 10**6}.py"
    file.write_text(PLUGIN.format(promises=promises, body=body, merged=merged), encoding="utf-8")
    return file


MINE = '+adapters.scaled={use: mine, match: "**.ffn"}'


def test_a_plugins_adapter_is_a_kind_like_any_other(small_coca: Load, tmp_path: Path) -> None:
    blueprint = small_coca(MINE, plugins=[plugin(tmp_path)])
    blueprint.compile()
    model = build(blueprint.check(), seed=0)
    names = [name for name, _ in model.named_parameters() if name.endswith("fc1.scaled.scale")]
    assert names and all(isinstance(m, Adapted) for n, m in model.named_modules() if n.endswith("fc1"))
    linear = next(module for module in model.modules() if isinstance(module, Adapted))
    with pytest.raises(UserError, match=r"adapter 'scaled' has no `merged\(weight\)`"):
        _ = linear.weight


@pytest.mark.parametrize(
    ("body", "merged", "says"),
    [
        ("self.calls += 1\n        " + SCALED, "", "state: a forward changes calls"),
        ("return F.linear(x + x.mean(0), weight, bias)", "", "rows: row 0"),
        ("return F.linear(F.dropout(x), weight, bias)", "", "draws: a forward moves the generator of torch"),
        (SCALED, "    def merged(self, weight):\n        return weight + self.scale[:, None]\n",
         "merged: the merged weight gives other products in evaluation"),
        ("return F.linear(x, weight, bias)[..., :3]", "", "gives [3, 5, 3] where a map gives [3, 5, 192]"),
    ],
    ids=["state", "rows", "draws", "merged", "shape"],
)  # fmt: skip
def test_a_plugins_adapter_that_breaks_a_promise_is_named(
    small_coca: Load, tmp_path: Path, body: str, merged: str, says: str
) -> None:
    file = plugin(tmp_path, body, merged=merged)
    blueprint = small_coca(MINE, plugins=[file])
    with pytest.raises(UserError) as caught:
        blueprint.compile()
    (problem,) = caught.value.problems
    assert says in problem.message and problem.message.startswith("`adapters.scaled` ")
    assert problem.span is not None and problem.span.file == str(file)


NO_SIZES = """@adapter('a')
class A(nn.Module):
    class Config(Settings):
        pass
    def __init__(self, config):
        super().__init__()
    def forward(self, x, weight, bias):
        return x
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@adapter('a')\nclass A:\n    pass\n", "a: an adapter is a class of `torch.nn.Module`: class A(nn.Module)"),
        ("@adapter('a')\nclass A(nn.Module):\n    class Config(Settings):\n        pass\n",
         "a: the class of an adapter has forward; there is no forward"),
        ("@adapter('a')\nclass A(nn.Module):\n    def forward(self, x, weight, bias):\n        return x\n",
         "a: the class has no `Config` of its settings"),
        (NO_SIZES,
         "a: `__init__` is called with Config and sizes, by place"),
    ],
)  # fmt: skip
def test_what_is_no_declaration_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(f"from torch import nn\nfrom compose_vlp.registry import Settings, adapter\n{text}")
    with pytest.raises(UserError) as caught:
        Blueprint.load("tiny/coca", plugins=[file])
    assert caught.value.problems[0].message.startswith(says)

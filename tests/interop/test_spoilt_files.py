"""Weight files that are damaged, cut short or of another model: each is refused in words, by every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from compose_vlp import Blueprint
from compose_vlp.blueprint.sections import Start
from compose_vlp.compiler.model import build
from compose_vlp.errors import UserError
from compose_vlp.interop import albef, beit3, blip, open_clip_coca, vlmo, vqkd
from compose_vlp.interop.format import Filled
from compose_vlp.interop.maps import timm_vit
from compose_vlp.interop.rules import Rule, to_theirs
from compose_vlp.interop.start import WHOLE, components_of, start

N = 12
SHAPES: Mapping[str, tuple[int, ...]] = {
    "scalar": (),
    "batched": (1, N, N),
    "token": (1, 1, N),
    "padded": (N + 2, N),
    "pixel": (N, N, 1, 1),
}
RULES: Mapping[str, list[Rule]] = {
    "albef": albef.rules(albef.Layout("retrieval", 1, 1, 1, 0, momentum=True, queues=True)),
    "blip": blip.rules(blip.Layout("pretrain", 1, 1, 1, 1, momentum=True, queues=True)),
    "beit3": beit3.rules(beit3.Layout("retrieval", 1, final_norm=True, words=False, codes=False)),
    "vqkd": vqkd.rules(vqkd.Layout(1, 1, started=True)),
    "open_clip_coca": open_clip_coca.rules(open_clip_coca.Layout(1, 1, 1, own_maps=True, embedding_norm=True)),
    "vlmo": vlmo.rules(vlmo.Layout("pretrain", frozenset({"pooler", "itc"}), 1, 1, True, True, True, True, 2)),
}
NOTHING = Filled({}, {}, ())


def whole(form: str) -> dict[str, Tensor]:
    """A state dict with all the names of a format."""
    return {name: torch.zeros(SHAPES.get(rule.form, (N, N))) for rule in RULES[form] for name in rule.theirs}


SPOILT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "one number": lambda _: torch.tensor(1.0),
    "one row": lambda _: torch.zeros(5),
    "no rows": lambda _: torch.zeros(0),
    "three": lambda _: torch.zeros(2, 3, 5),
    "five": lambda _: torch.zeros(1, 1, 1, 1, 1),
    "whole numbers": lambda t: t.to(torch.int8),
}


@pytest.mark.parametrize("form", RULES)
def test_a_tensor_of_any_other_shape_is_taken_or_refused_by_its_name(form: str) -> None:
    """What is taken in spite of its shape, the parameter that it is for refuses."""
    state = whole(form)
    WHOLE[form](state, NOTHING)
    messages: list[tuple[str, str]] = []
    for name in state:
        for spoil in SPOILT.values():
            try:
                WHOLE[form]({**state, name: spoil(state[name])}, NOTHING)
            except UserError as error:
                messages.append((name, str(error)))
    assert len(messages) > 12
    for name, message in messages:
        assert name in message or name.rpartition(".")[0] in message, (name, message)


@pytest.mark.parametrize("form", RULES)
def test_a_file_that_is_cut_short_or_of_another_model_is_refused(form: str) -> None:
    """What a file lacks by which its layout is known may make it one of another class, which lacks nothing."""
    state = whole(form)
    refused = 0
    for name in list(state)[::3]:
        try:
            WHOLE[form]({n: tensor for n, tensor in state.items() if n != name}, NOTHING)
        except UserError:
            refused += 1
    assert refused > len(state) / 4
    for other in ({}, {"weight": torch.zeros(3)}, *(whole(other) for other in RULES if other != form)):
        with pytest.raises(UserError):
            WHOLE[form](other, NOTHING)


# --- into a component, through `start` ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def albef_model() -> Blueprint:
    return Blueprint.load("tiny/albef", overrides=["components.vision.stem=patch", "components.vision.stem_depth=0"])


def _spoilt_vits(state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    for name in [*[n for n in state if not n.startswith("blocks.")], "blocks.0.attn.qkv.weight", "blocks.0.norm1.bias"]:
        for what, spoil in SPOILT.items():
            yield f"{name}: {what}", {**state, name: spoil(state[name])}
        yield f"{name}: gone", {n: tensor for n, tensor in state.items() if n != name}


def test_a_spoilt_file_of_one_component_is_refused_with_its_name(albef_model: Blueprint, tmp_path: Path) -> None:
    model = build(albef_model.check(), "cpu", 0)
    components = {"vision": components_of(albef_model.check(), model)["vision"]}
    depth = len(model.components.get_submodule("vision").layers)  # type: ignore[arg-type]
    ours = components["vision"].module.state_dict()
    fitting = [rule for rule in timm_vit.rules(depth) if all(name in ours for name in rule.ours)]
    state = to_theirs(fitting, {name: ours[name] for rule in fitting for name in rule.ours})
    state = {name: tensor[None] if name == "pos_embed" else tensor for name, tensor in state.items()}
    state["cls_token"] = state["cls_token"][None, None]
    file = tmp_path / "vit.safetensors"
    item = Start.model_validate({"from": str(file), "to": ["vision"], "as": "timm"})
    save_file({n: tensor.contiguous() for n, tensor in state.items()}, file)
    start(components, [item])
    for what, spoilt in _spoilt_vits(state):
        save_file({n: tensor.contiguous() for n, tensor in spoilt.items()}, file)
        with pytest.raises(UserError) as refused:
            start(components, [item])
        texts = [text for problem in refused.value.problems for text in (problem.message, *problem.hints)]
        assert any(str(file) in text for text in texts), (what, texts)


def test_whole_numbers_are_no_weights(albef_model: Blueprint, tmp_path: Path) -> None:
    model = build(albef_model.check(), "cpu", 0)
    component = components_of(albef_model.check(), model)["itm_head"]
    state = {f"itm_head.{name}": tensor for name, tensor in component.module.state_dict().items()}
    file = tmp_path / "head.safetensors"
    save_file({name: tensor.to(torch.int8) for name, tensor in state.items()}, file)
    with pytest.raises(UserError, match="2 weights of `itm_head` have other shapes or types") as refused:
        start({"itm_head": component}, [Start.model_validate({"from": str(file), "to": ["itm_head"]})])
    assert "is float32 here and int8 in" in refused.value.problems[0].hints[0]

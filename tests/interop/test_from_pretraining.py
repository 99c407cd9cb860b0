"""Tasks begin from a pretrained checkpoint as the authors' scripts begin them: layers copied, and under other names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.interop import albef, blip
from compose_vlp.interop.oracle import read_oracle
from compose_vlp.interop.replays import albef as albef_folder
from compose_vlp.interop.replays import blip as blip_folder
from compose_vlp.interop.start import initialiser

State = dict[str, Tensor]
FOLDERS: Mapping[str, ModuleType] = {"albef": albef_folder, "blip": blip_folder}
NAMES: Mapping[str, ModuleType] = {"albef": albef, "blip": blip}
QUESTION = "inputs.question.max_length=8"
"""No longer than the folders' tables of positions."""
LAYER = re.compile(r"(?P<before>.*\.layer\.)(?P<number>\d+)(?P<after>\..*)")


def begun(form: str, folder: Path, tasks: list[str], start: str, *overrides: str) -> tuple[Model, list[str]]:
    """A task's model of the folder's sizes, begun from the folder's weights."""
    _, sizes = FOLDERS[form].settings(read_oracle(folder))
    weights = start.replace("FILE", f'"{folder / "model.safetensors"}"').replace("FORM", form)
    known = Blueprint.load(form, *tasks).document.components.names
    own = [size for size in sizes if size.startswith("inputs.") or size.split(".")[1].split("=")[0] in known]
    blueprint = Blueprint.load(form, *tasks, overrides=[*own, f"start={weights}", *overrides]).check()
    model, notes = build(blueprint, seed=0), list[str]()
    initialiser(blueprint, notes.append)(model)
    return model, notes


def assert_as_theirs(model: Model, expected: Mapping[str, Tensor], components: tuple[str, ...]) -> None:
    """All weights of these components are those of the authors' model, after its script has loaded the checkpoint."""
    ours = model.components.state_dict()
    compared = [name for name in expected if name.split(".")[0] in components]
    assert {name.split(".")[0] for name in compared} == {*components}
    for name in compared:
        there = expected[name][: len(ours[name])] if name.endswith("positions") else expected[name]
        assert torch.equal(ours[name], there), name


def moved(state: Mapping[str, Tensor], places: Callable[[int], list[int]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        actual = LAYER.match(name)
        for number in places(int(actual["number"])) if actual else [-1]:
            yield (f"{actual['before']}{number}{actual['after']}" if actual else name), tensor


def student(state: Mapping[str, Tensor], *beginnings: str) -> State:
    return {name: tensor for name, tensor in state.items() if name.startswith(beginnings)}


def with_judge(state: State) -> State:
    width = len(state["text_encoder.embeddings.LayerNorm.bias"])
    head = {"cls_head.0.weight": (width, width), "cls_head.0.bias": (width,), "cls_head.2.weight": (2, width)}
    return {**state, **{name: torch.zeros(shape) for name, shape in head.items()}, "cls_head.2.bias": torch.zeros(2)}


def test_albefs_fusion_layers_stand_twice_where_there_are_two_pictures(oracle: Callable[[str], Path]) -> None:
    folder = oracle("albef/pretrain")
    model, notes = begun("albef", folder, ["tasks/nlvr2"], '[{from: FILE, as: FORM}, {new: ["judge.**"]}]')
    pretrained = load_file(folder / "model.safetensors")
    text = {n.replace("bert.", ""): t for n, t in student(pretrained, "text_encoder.bert.").items()}
    first = albef.Layout.of(pretrained).text
    twice = dict(moved(text, lambda n: [n] if n < first else [first + 2 * (n - first), first + 2 * (n - first) + 1]))
    expected = albef.import_state(with_judge({**student(pretrained, "visual_encoder."), **twice}))
    assert_as_theirs(model, expected, ("vision", "text", "fusion"))
    assert any("weights for further contexts are copies of the first one's" in line for line in notes)


def test_blips_cross_attention_is_copied_for_the_second_picture(oracle: Callable[[str], Path]) -> None:
    folder = oracle("blip/pretrain")
    new = '[{from: FILE, as: FORM}, {new: ["judge.**", "text.**.merge.*"]}]'
    model, _ = begun("blip", folder, ["tasks/nlvr2"], new)
    state: State = {}
    pretrained = load_file(folder / "model.safetensors")
    for name, tensor in student(pretrained, "visual_encoder.", "text_encoder.").items():
        for i in (0, 1):
            renamed = name.replace("crossattention.self.", f"crossattention.self{i}.")
            state[renamed.replace("crossattention.output.dense.", f"crossattention.output.dense{i}.")] = tensor
    assert_as_theirs(model, blip.import_state(with_judge(state)), ("vision", "text"))


def test_albefs_answerer_begins_as_its_fusion_layers(oracle: Callable[[str], Path]) -> None:
    folder = oracle("albef/pretrain")
    pretrained = load_file(folder / "model.safetensors")
    layout = albef.Layout.of(pretrained)
    start = (
        "[{from: FILE, as: FORM}, {from: FILE, as: FORM, of: fusion, to: answerer}, "
        "{from: FILE, as: FORM, of: text, to: answerer}, {from: FILE, as: FORM, of: mlm_head, to: answer_head}]"
    )
    model, _ = begun("albef", folder, ["tasks/vqa_generate"], start, *answerer(folder, layout.fusion), QUESTION)
    text = student(pretrained, "text_encoder.")
    layers = dict(moved(text, lambda n: [n - layout.text] if n >= layout.text else []))
    decoder = {name.replace("text_encoder.", "text_decoder."): tensor for name, tensor in layers.items()}
    encoder = {n.replace("bert.", ""): t for n, t in text.items() if ".cls." not in n}
    expected = albef.import_state({**student(pretrained, "visual_encoder."), **encoder, **decoder})
    assert_as_theirs(model, expected, ("vision", "text", "fusion", "answerer", "answer_head"))


def test_blips_answerer_begins_as_its_decoder(oracle: Callable[[str], Path]) -> None:
    folder = oracle("blip/pretrain")
    pretrained = load_file(folder / "model.safetensors")
    start = (
        "[{from: FILE, as: FORM}, {from: FILE, as: FORM, of: decoder, to: answerer}, "
        "{from: FILE, as: FORM, of: lm_head, to: answer_head}]"
    )
    depth = blip.Layout.of(pretrained).words
    model, _ = begun("blip", folder, ["tasks/blip/vqa"], start, *answerer(folder, depth), QUESTION)
    expected = blip.import_state(student(pretrained, "visual_encoder.", "text_encoder.", "text_decoder."))
    assert_as_theirs(model, expected, ("vision", "text", "answerer", "answer_head"))


def answerer(folder: Path, depth: int) -> list[str]:
    config = read_oracle(folder).config
    sizes = {"depth": depth, "heads": config["th"], "mlp_width": config["inter"], "length": config["maxpos"]}
    return [f"components.answerer.{name}={value}" for name, value in sizes.items()]


@pytest.mark.parametrize("task", ["tasks/entailment", "tasks/retrieval"])
@pytest.mark.parametrize("form", ["albef", "blip"])
def test_other_tasks_take_what_they_have(oracle: Callable[[str], Path], form: str, task: str) -> None:
    folder = oracle(f"{form}/pretrain")
    new = '[{from: FILE, as: FORM}, {new: ["judge.**"]}]' if task == "tasks/entailment" else "[{from: FILE, as: FORM}]"
    queue = ["stages.finetune.batch=8"] if task == "tasks/retrieval" else []  # the file's queue is a small one
    model, _ = begun(form, folder, [task], new, *queue)
    expected = NAMES[form].import_state(load_file(folder / "model.safetensors"))
    assert_as_theirs(model, expected, ("vision", "text"))


def test_a_component_that_the_file_has_not_is_named(oracle: Callable[[str], Path]) -> None:
    folder = oracle("albef/pretrain")
    start = "[{from: FILE, as: FORM, of: fusoin, to: answerer}]"
    with pytest.raises(UserError, match="no component 'fusoin'") as caught:
        begun("albef", folder, ["tasks/vqa_generate"], start, QUESTION)
    assert "fusion" in caught.value.problems[0].hints[0]


def test_nlvr2_begins_from_the_checkpoint_of_text_assignment(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    """Which has no head for matching; nothing calls the task's."""
    folder = oracle("albef/nlvr")
    trained = load_file(folder / "model.safetensors")
    state = {name: tensor for name, tensor in trained.items() if "_m." not in name and "cls_head" not in name}
    width, embed = len(state["text_encoder.embeddings.LayerNorm.bias"]), 256
    for name, shape in {"vision_proj": (embed, width), "text_proj": (embed, width), "ta_head": (3, width)}.items():
        state |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    save_file({**state, "temp": torch.tensor(0.07)}, tmp_path / "model.safetensors")
    shutil.copy(folder / "config.json", tmp_path)
    _, sizes = albef_folder.settings(read_oracle(folder))
    start = f'start=[{{from: "{tmp_path / "model.safetensors"}", as: albef}}, {{new: ["judge.**"]}}]'
    blueprint = Blueprint.load("albef", "tasks/albef/nlvr2", overrides=[*sizes, start]).check()
    assert "itm_head" in blueprint.unread_components
    model = build(blueprint, seed=0)
    initialiser(blueprint, lambda _: None)(model)
    expected = albef.import_state(load_file(tmp_path / "model.safetensors"))
    assert_as_theirs(model, expected, ("vision", "text", "fusion"))

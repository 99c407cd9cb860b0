"""ALBEF's and BLIP's checkpoints: every tensor has a place, those of each model class; what does not fit is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compose_vlp.components.queues.feature_queue import NOBODY
from compose_vlp.errors import UserError
from compose_vlp.interop import albef, bert, blip
from compose_vlp.interop.files import read_state
from compose_vlp.interop.rules import to_theirs
from compose_vlp.interop.verify import verify

CLASSES = [("albef", task) for task in ("pretrain", "retrieval", "ve", "vqa", "nlvr")] + [
    ("blip", task) for task in ("pretrain", "retrieval", "captioning", "vqa", "nlvr", "itm")
]
FORMATS: dict[str, ModuleType] = {"albef": albef, "blip": blip}


def state_of(oracle: Callable[[str], Path], name: str) -> dict[str, Tensor]:
    return load_file(oracle(name) / "model.safetensors")


@pytest.mark.parametrize(("form", "task"), CLASSES)
def test_every_tensor_of_each_class_has_one_place_and_finds_the_way_back(
    oracle: Callable[[str], Path], form: str, task: str
) -> None:
    state, names = state_of(oracle, f"{form}/{task}"), FORMATS[form]
    layout = names.Layout.of(state)
    assert layout.task == task
    ours = names.import_state(state)
    if task == "pretrain":  # a queue of ours has ids too, which begin as nobody's
        assert ours.pop("memory.id").unique().tolist() == [NOBODY]
    back = bert.with_derived(to_theirs(names.rules(layout), ours), state)
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())


def test_the_class_of_text_assignment_has_a_place_for_every_tensor(oracle: Callable[[str], Path]) -> None:
    state = {
        name: t for name, t in state_of(oracle, "albef/nlvr").items() if "_m." not in name and "cls_head" not in name
    }
    width = len(state["text_encoder.embeddings.LayerNorm.bias"])
    for name, shape in {"vision_proj": (4, width), "text_proj": (4, width), "ta_head": (3, width)}.items():
        state |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    state["temp"] = torch.tensor(0.07)
    layout = albef.Layout.of(state)
    assert (layout.task, layout.momentum, layout.queues) == ("assignment", False, False)
    back = bert.with_derived(to_theirs(albef.rules(layout), albef.import_state(state)), state)
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())


def test_what_follows_from_the_rest_is_all_that_is_left_out(oracle: Callable[[str], Path]) -> None:
    state = state_of(oracle, "albef/pretrain")
    left = state.keys() - bert.without_derived(state).keys()
    assert left == {f"text_encoder{m}.{name}" for m in ("", "_m")
                    for name in ("bert.embeddings.position_ids", "cls.predictions.decoder.bias")}  # fmt: skip


def test_a_training_checkpoint_is_unpacked(oracle: Callable[[str], Path], tmp_path: Path) -> None:
    state = state_of(oracle, "blip/itm")
    torch.save({"model": state, "optimizer": {}, "config": {"image_size": 32}, "epoch": 4}, tmp_path / "model.pth")
    assert blip.import_state(read_state(tmp_path / "model.pth")).keys() == blip.import_state(state).keys()


def test_a_fine_tuned_checkpoint_lacks_the_teacher_and_its_queues(oracle: Callable[[str], Path]) -> None:
    state = {n: t for n, t in state_of(oracle, "albef/retrieval").items() if "_m." not in n and "queue" not in n}
    ours = albef.import_state(state)
    assert not any(name.startswith(("momentum.", "memory.")) for name in ours)


@pytest.mark.parametrize(("form", "task"), [("albef", "pretrain"), ("blip", "vqa")])
def test_a_tensor_too_few_or_too_many_is_named(oracle: Callable[[str], Path], form: str, task: str) -> None:
    state, names = state_of(oracle, f"{form}/{task}"), FORMATS[form]
    gone = {name: tensor for name, tensor in state.items() if name != "visual_encoder.norm.bias"}
    with pytest.raises(UserError, match="1 missing") as missing:
        names.import_state(gone)
    assert "missing: visual_encoder.norm.bias" in missing.value.problems[0].hints
    with pytest.raises(UserError, match="1 unexpected"):
        names.import_state({**state, "visual_encoder.head.weight": torch.ones(1)})


def test_each_format_tells_the_others_checkpoints(oracle: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="no state dict of BLIP") as of_albef:
        blip.import_state(state_of(oracle, "albef/ve"))
    assert "format `albef`" in of_albef.value.problems[0].hints[0]
    with pytest.raises(UserError, match="no state dict of ALBEF") as of_blip:
        albef.import_state(state_of(oracle, "blip/itm"))
    assert "format `blip`" in of_blip.value.problems[0].hints[0]
    for names in (albef, blip):
        with pytest.raises(UserError, match="no state dict of"):
            names.import_state({"weight": torch.ones(1)})


def test_a_recorded_step_of_text_assignment_is_not_replayed_and_says_so(
    oracle: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "assignment"
    shutil.copytree(oracle("albef/nlvr"), folder)
    state = {n: t for n, t in load_file(folder / "model.safetensors").items() if "cls_head" not in n}
    save_file({**state, "ta_head.weight": torch.zeros(3, 4)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="steps of text assignment are not replayed"):
        verify(folder, "albef")

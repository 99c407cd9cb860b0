"""Recorded steps of other sizes and options than the oracles' own: no scales, fewer rows, more positions, norms."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.errors import UserError
from compose_vlp.interop.verify import verify

Find = Callable[[str], Path]
State = dict[str, Tensor]
WIDTH = 48


def changed(folder: Path, out: Path, change: Callable[[State, State, State, dict[str, Any]], None]) -> Path:
    """A copy of a recorded step with other weights, inputs, results and configuration, and without its gradients."""
    out.mkdir()
    tensors = [load_file(folder / f"{name}.safetensors") for name in ("model", "inputs", "outputs")]
    config = json.loads((folder / "config.json").read_text())
    change(*tensors, config)
    for name, state in zip(("model", "inputs", "outputs"), tensors, strict=True):
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, out / f"{name}.safetensors")
    (out / "config.json").write_text(json.dumps(config))
    return out


def fold_scales(weights: State, *_: Any) -> None:
    """LayerScale's factors go into the maps before them, so that the same model has none."""
    for name in [name for name in weights if ".gamma_" in name]:
        block, scale = name.rsplit(".", 1)[0], weights.pop(name)
        maps = r"attn\.proj" if name.endswith("gamma_1") else r"mlp_\w+\.fc2"
        for path in [path for path in weights if re.fullmatch(rf"{re.escape(block)}\.{maps}\.(weight|bias)", path)]:
            weights[path] = weights[path] * scale.view(-1, *[1] * (weights[path].dim() - 1))


@pytest.mark.parametrize("task", ["pretrain", "textmlm", "retrieval", "vqa", "nlvr2"])
def test_vlmo_without_scales_of_branches(oracle: Find, tmp_path: Path, task: str) -> None:
    assert verify(changed(oracle(f"vlmo/{task}"), tmp_path / task, fold_scales), "vlmo").failures == ()


def three_rows(answers: str) -> Callable[[State, State, State, dict[str, Any]], None]:
    def change(_: State, inputs: State, outputs: State, config: dict[str, Any]) -> None:
        config["B"] = 3
        inputs |= {name: tensor[:3] for name, tensor in inputs.items()}
        outputs["logits"] = outputs["logits"][:3]
        outputs["loss"] = F.cross_entropy(outputs["logits"], inputs[answers])

    return change


@pytest.mark.parametrize(
    ("step", "answers"), [("vlmo/nlvr2", "answers"), ("beit3/nlvr2", "targets"), ("beit3/classification", "targets")]
)
def test_another_number_of_rows(oracle: Find, tmp_path: Path, step: str, answers: str) -> None:
    folder = changed(oracle(step), tmp_path / "fewer", three_rows(answers))
    assert verify(folder, step.partition("/")[0]).failures == ()


def only_what_the_tensors_do_not_tell(weights: State, _: State, __: State, config: dict[str, Any]) -> None:
    for name in ("w", "vocab", "patch", "ffn", "classes", "vqa"):
        config.pop(name, None)


@pytest.mark.parametrize("step", ["vlmo/vqa", "vlmo/pretrain", "beit3/vqa", "beit3/classification", "beit3/captioning"])
def test_sizes_are_read_off_the_tensors(oracle: Find, tmp_path: Path, step: str) -> None:
    folder = changed(oracle(step), tmp_path / "short", only_what_the_tensors_do_not_tell)
    assert verify(folder, step.partition("/")[0]).failures == ()


def absolute(rows: int) -> Callable[[State, State, State, dict[str, Any]], None]:
    def change(weights: State, _: State, __: State, config: dict[str, Any]) -> None:
        config["rel"] = False
        for name in [name for name in weights if "gamma" in name or "relative_position" in name]:
            del weights[name]
        weights["transformer.pos_embed"] = torch.zeros(1, 17, WIDTH)
        weights["text_embeddings.position_embeddings.weight"] = torch.zeros(rows, WIDTH)

    return change


@pytest.mark.parametrize("rows", [10, 16, 40])
@pytest.mark.parametrize("task", ["pretrain", "textmlm", "retrieval", "vqa", "nlvr2"])
def test_vlmos_table_of_words_may_have_more_rows_than_texts(oracle: Find, tmp_path: Path, task: str, rows: int) -> None:
    compared = verify(changed(oracle(f"vlmo/{task}"), tmp_path / task, absolute(rows)), "vlmo")
    assert compared.failures, "other positions give other numbers"


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("task", ["retrieval", "vqa", "nlvr2", "classification", "captioning"])
def test_beit3_with_and_without_a_last_norm(oracle: Find, tmp_path: Path, task: str, normed: bool) -> None:
    def change(weights: State, _: State, __: State, config: dict[str, Any]) -> None:
        config["normalize_output"] = normed
        norm = "beit3.encoder.layer_norm"
        for letter in "AB":
            for suffix, value in (("weight", torch.linspace(0.5, 2, WIDTH)), ("bias", torch.zeros(WIDTH))):
                weights.pop(f"{norm}.{letter}.{suffix}", None)
                if normed:
                    weights[f"{norm}.{letter}.{suffix}"] = value

    recorded = json.loads((oracle(f"beit3/{task}") / "config.json").read_text())["normalize_output"]
    compared = verify(changed(oracle(f"beit3/{task}"), tmp_path / task, change), "beit3")
    assert compared.failures or recorded == normed


@pytest.mark.parametrize("task", ["retrieval", "vqa", "nlvr2", "classification", "captioning"])
def test_beit3_with_the_heads_of_pretraining_that_its_step_does_not_read(
    oracle: Find, tmp_path: Path, task: str
) -> None:
    def change(weights: State, _: State, __: State, ___: dict[str, Any]) -> None:
        rows = {"mim": 20, "mlm": len(weights["beit3.text_embed.weight"])}
        for name in rows.keys() - ({"mlm"} if task == "captioning" else set()):
            weights[f"{name}_head.weight"] = torch.ones(rows[name], WIDTH)
            weights[f"{name}_head.bias"] = torch.zeros(rows[name])

    assert verify(changed(oracle(f"beit3/{task}"), tmp_path / "more", change), "beit3").failures == ()


def test_tensors_that_no_class_has_are_named(oracle: Find, tmp_path: Path) -> None:
    def change(weights: State, *_: Any) -> None:
        weights["strange.weight"] = torch.ones(2)

    for step in ("vlmo/retrieval", "beit3/captioning"):
        form = step.partition("/")[0]
        with pytest.raises(UserError, match=rf"has tensors that no class of {form} has: strange\.weight"):
            verify(changed(oracle(step), tmp_path / form, change), form)


def test_what_the_configuration_does_not_say_is_told(oracle: Find, tmp_path: Path) -> None:
    folder = tmp_path / "vlmo"
    shutil.copytree(oracle("vlmo/pretrain"), folder)
    (folder / "config.json").chmod(0o644)
    (folder / "config.json").write_text('{"image": 32, "L": 10}')
    with pytest.raises(UserError, match=r"config\.json does not say 'h'"):
        verify(folder, "vlmo")

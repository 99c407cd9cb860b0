"""BEiT-3's files: each class in the authors' names and back, and the headers' `start` run on small files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import beit3 as names
from compose_vlp.interop.export import export
from compose_vlp.interop.start import initialiser
from compose_vlp.interop.weights import weights_of
from compose_vlp.values.tables import resize_grid

TASKS: dict[names.Task, str | None] = {
    "pretrain": None,
    "retrieval": "retrieval",
    "vqa": "vqa",
    "nlvr2": "nlvr2",
    "classification": "classification",
}
WIDTH = 16


def small(task: str | None = None, *overrides: str, side: int = 32, base: str = "beit3_base") -> CheckedBlueprint:
    """A small BEiT-3, for pretraining or a task of its folder."""
    sizes: dict[str, object] = {
        "inputs.image.size": side,
        "inputs.caption.max_length": 8,
        "components.spm": "{use: ids, vocab_size: 50, begin: '0', pad: '1', end: '2', mask: '3'}",
        "components.patches_of.width": WIDTH,
        "components.words_of.width": WIDTH,
        "components.words_of.length": 12,
        "components.backbone.depth": 2,
        "components.backbone.heads": 2,
        "components.backbone.mlp_width": 24,
    }
    if task == "retrieval":
        sizes |= {f"components.{name}.out": WIDTH for name in ("image_proj", "text_proj")}
    if task in ("vqa", "nlvr2"):
        sizes["components.judge.hidden"] = 2 * WIDTH
    if task in ("vqa", "classification"):
        sizes["components.judge.classes"] = 7
    if task == "captioning":
        sizes["outputs.caption.max_length"] = 8
    if task is None:
        sizes |= {"components.code_patches.width": WIDTH, "components.code_tower.depth": 1}
        sizes |= {"components.code_tower.heads": 2, "components.codebook.size": 20, "components.code_head.classes": 20}
    changes = [f"{path}={value}" for path, value in sizes.items()]
    layers = [base, *([f"tasks/beit3/{task}"] if task else [])]
    return Blueprint.load(*layers, overrides=[*changes, *overrides]).check()


def random(checked: CheckedBlueprint) -> Model:
    model = build(checked, seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.mark.parametrize("task", TASKS)
def test_each_class_goes_to_the_authors_names_and_back(task: names.Task) -> None:
    ours = weights_of(random(small(TASKS[task])))
    exported = names.export_state(ours)
    layout = names.Layout.of(exported)
    assert layout.task == task
    assert (layout.words, layout.codes) == ((True, True) if task == "pretrain" else (False, False))
    assert layout.final_norm == (task not in ("vqa", "classification"))
    back = names.import_state(exported).tensors
    assert all(torch.equal(tensor, ours[name]) for name, tensor in back.items())
    left = {name.split(".")[0] for name in ours.keys() - back.keys()}
    assert left <= {"code_patches", "code_tower", "codebook", "word_head", "code_head"}, "all else has a name"


def started(file: Path, task: str, side: int) -> tuple[Model, list[str]]:
    checked = small(task, f'start=[{{from: "{file}", as: beit3}}]', side=side)
    model, notes = build(checked, seed=1), list[str]()
    initialiser(checked, notes.append)(model)
    return model, notes


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_a_file_in_half_precision_fills_its_class_and_names_what_none_has(
    precision: torch.dtype, tmp_path: Path
) -> None:
    short = {
        name: tensor.to(precision) for name, tensor in names.export_state(weights_of(random(small("vqa")))).items()
    }
    strange = {"strange.weight": torch.ones(2), "norm.num_batches_tracked": torch.tensor(3)}
    torch.save({"model": {**short, **strange}}, tmp_path / "beit3.pth")
    model, notes = started(tmp_path / "beit3.pth", "vqa", 32)
    filled = names.export_state(weights_of(model))
    assert filled.keys() == short.keys()
    assert all(torch.equal(tensor, short[name].float()) for name, tensor in filled.items())
    assert any(line.endswith("strange.weight, norm.num_batches_tracked") for line in notes if "left over" in line)


@pytest.mark.parametrize(("before", "after"), [(224, 480), (64, 32)])
def test_a_file_of_another_size_of_picture_fills_a_model(before: int, after: int, tmp_path: Path) -> None:
    stored = weights_of(random(small("nlvr2", side=before)))
    torch.save(names.export_state(stored), tmp_path / "beit3.pth")
    ours = weights_of(started(tmp_path / "beit3.pth", "nlvr2", after)[0])
    own, positions = set(names.import_state(names.export_state(stored)).tensors), "patches_of.positions"
    assert all(torch.equal(ours[name], stored[name]) for name in own - {positions})
    assert torch.equal(ours[positions][0], stored[positions][0])
    patches = resize_grid(stored[positions][1:], (after // 16) ** 2, antialias=False)
    assert torch.equal(ours[positions][1:], patches)


@pytest.mark.parametrize("task", ["retrieval", "vqa", "nlvr2", "classification", "captioning"])
def test_a_recorded_class_comes_back_whole(oracle: Callable[[str], Path], task: str) -> None:
    state = load_file(oracle(f"beit3/{task}") / "model.safetensors")
    back = names.export_state(names.import_state(state).tensors)
    assert back.keys() == state.keys()
    for name, tensor in back.items():
        unused = 2 if "embed_positions" in name else 0
        assert torch.equal(tensor[unused:] if unused else tensor, state[name][unused:] if unused else state[name]), name


def test_export_writes_the_authors_names(tmp_path: Path) -> None:
    model, file = random(small()), tmp_path / "beit3.safetensors"
    written = export(model, file, form="beit3")
    state = load_file(file)
    assert written.tensors == len(state) and {"mlm_head.weight", "mim_head.bias"} <= state.keys()
    assert not any("code_" in name or "codebook" in name for name in state)
    with pytest.raises(UserError, match="no format is called 'beit4'"):
        export(model, file, form="beit4")
    with pytest.raises(UserError, match="adapters have no names"):
        export(model, file, form="beit3", apart=True)
    shared = random(small(None, "components.backbone.attention_experts=false"))
    with pytest.raises(UserError, match="no weights of BEiT-3 as it was released"):
        export(shared, file, form="beit3")


@pytest.mark.parametrize(
    ("task", "change", "name"),
    [(None, "components.patches_of.stem=convolution", r"patches_of\.stem\."),
     (None, "components.backbone.layer_scale=0.1", r"ffn_scale"),
     ("retrieval", "components.image_proj.bias=true", r"image_proj\.map\.bias")],
)  # fmt: skip
def test_weights_that_the_authors_class_has_not_are_told_and_not_left_out(
    task: str | None, change: str, name: str
) -> None:
    with pytest.raises(UserError, match="unexpected") as caught:
        names.export_state(weights_of(random(small(task, change))))
    assert re.search(name, " ".join(caught.value.problems[0].hints))


def command_of(task: str, root: Path) -> str:
    """The `start` that a task's header shows."""
    text = (root / f"blueprints/tasks/beit3/{task}.yaml").read_text(encoding="utf-8")
    comment = " ".join(line.lstrip("# ").removesuffix("\\") for line in text.split("\n") if line.startswith("#"))
    (command,) = re.findall(r"compose-vlp train .*?\]'", comment)
    return next(word for word in shlex.split(command) if word.startswith("start="))


@pytest.mark.parametrize("task", ["retrieval", "vqa", "nlvr2", "classification", "captioning"])
@pytest.mark.parametrize("wrapped", ["model", "module", None])
def test_a_headers_start_fills_the_task(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, wrapped: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    of = {"beit3_base_patch16_224.pth": None, "beit3_base_itc_patch16_224.pth": "retrieval"}
    start = command_of(task, root)
    (file,) = re.findall(r"from: ([\w.]+)", start)
    written: dict[str, Tensor] = names.export_state(weights_of(random(small(of[file]))))
    torch.save(written if wrapped is None else {wrapped: written}, file)
    checked = small(task, start, side=48)  # a larger picture than the file's
    model, notes = build(checked, seed=1), list[str]()
    initialiser(checked, notes.append)(model)
    filled = names.export_state(weights_of(model))
    same = [name for name in filled if name in written and not name.endswith("embed_positions.A.weight")]
    assert all(torch.equal(filled[name], written[name]) for name in same)
    assert len(same) > 60
    fresh = {name.split(".")[0] for name in filled.keys() - written.keys()}
    assert fresh <= {"pooler", "head", "fc_norm"}
    assert any("patches_of.positions" in line for line in notes)

"""VLMo's files of every class, and BEiT's: each tensor used or named, and back in their own names, bit by bit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compose_vlp import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.components.layers.multiway import BiasRows, resize_distances
from compose_vlp.errors import UserError
from compose_vlp.interop import vlmo
from compose_vlp.interop.format import Filled
from compose_vlp.interop.start import initialiser
from compose_vlp.interop.weights import weights_of
from compose_vlp.values.tables import resize_grid

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEADS, LOWER, UPPER, FRAME, WORDS = 16, 2, 2, 1, 12, 60
SMALL = (
    "components.patches_of.width=16",
    "components.words_of.width=16",
    *(f"components.{stack}.heads=2" for stack in ("lower", "upper")),
    f"components.lower.depth={LOWER}",
    f"components.lower.layers_after={UPPER}",
    f"components.upper.depth={UPPER}",
    f"components.upper.layers_before={LOWER}",
    "inputs.image.size=64",
    "inputs.caption.max_length=8",
    f"components.bert={{use: ids, vocab_size: {WORDS}, begin: '1', pad: '0', mask: '3'}}",
)
RELATIVE = tuple(f"components.{stack}.positions.frame={FRAME}" for stack in ("lower", "upper"))
PROJECTED = tuple(f"components.{name}.out=16" for name in ("image_proj", "text_proj"))
PAIRS = tuple(f"components.{name}.out=16" for name in ("image_vl", "text_vl"))
JUDGE = ("components.judge.hidden=32",)
CLASSES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pretrain": (
        ("vlmo_base",),
        (*RELATIVE, *PROJECTED, *PAIRS, "components.masker.whole_words=false", "stages.language.set={}"),
    ),
    "retrieval": (("vlmo_base", "tasks/contrastive_retrieval"), (*RELATIVE, *PROJECTED)),
    "vqa": (
        ("vlmo_base", "tasks/vlmo/vqa"),
        (*RELATIVE, *PROJECTED, *JUDGE, "inputs.question.max_length=8", "components.judge.classes=5"),
    ),
    "nlvr2": (("vlmo_base", "tasks/vlmo/nlvr2"), (*RELATIVE, *PROJECTED, *JUDGE)),
    "absolute": (("vlmo_base_plus",), (*PROJECTED, *PAIRS, "components.masker.whole_words=false")),
}
"""Blueprints and settings of small models, by the class of their files."""


def settled(task: str, *overrides: str) -> list[str]:
    """The settings of a small model and these, of which the last of a path counts."""
    by_path = {override.partition("=")[0]: override for override in (*SMALL, *CLASSES[task][1], *overrides)}
    dropped = tuple(override.removeprefix("~") for override in overrides if override.startswith("~"))
    return [override for path, override in by_path.items() if not dropped or not path.startswith(dropped)]


def made(task: str, *overrides: str, seed: int | None = 0) -> Model:
    checked = Blueprint.load(*CLASSES[task][0], overrides=settled(task, *overrides)).check()
    return build(checked, seed=seed) if seed is not None else build(checked, "meta")


def begun(task: str, start: str, *overrides: str) -> tuple[Model, list[str]]:
    checked = Blueprint.load(*CLASSES[task][0], overrides=settled(task, *overrides, f"start={start}")).check()
    model, notes = build(checked, seed=5), list[str]()
    initialiser(checked, notes.append)(model)
    return model, notes


def random(model: Model) -> Model:
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_()
    return model


def told_left(notes: list[str]) -> str:
    return next((line.partition("left over in ")[2] for line in notes if "left over" in line), "")


@pytest.mark.parametrize("task", ["pretrain", "textmlm", "retrieval", "vqa", "nlvr2"])
def test_every_tensor_of_each_recorded_class_finds_the_way_back(oracle: Callable[[str], Path], task: str) -> None:
    state = load_file(oracle(f"vlmo/{task}") / "model.safetensors")
    upper = {"upper.layers.0.x": torch.ones(1), "upper.layers.1.x": torch.ones(1)} if task == "textmlm" else {}
    imported = vlmo.import_state(state, Filled(upper, {}, ()))
    assert not imported.left
    back = vlmo.export_state(imported.tensors)
    kept = vlmo.without_derived(state)
    assert back.keys() == kept.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in back.items())


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("wrapped", ["flat", "module.", "with indices"])
def test_what_is_exported_begins_the_same_model_bit_by_bit(task: str, wrapped: str, tmp_path: Path) -> None:
    model = random(made(task))
    state: dict[str, Tensor] = vlmo.export_state(weights_of(model))
    if wrapped == "with indices":
        for name in ("", "text_", "text_imag_"):
            state[f"{name}relative_position_index"] = torch.zeros(3, 3, dtype=torch.long)
        state["text_embeddings.position_ids"] = torch.arange(8)[None]
        if task != "absolute":
            state["text_embeddings.position_embeddings.weight"] = torch.zeros(40, WIDTH)
    file = tmp_path / "vlmo.pt"
    names = {f"module.{name}" if wrapped == "module." else name: tensor for name, tensor in state.items()}
    torch.save({"module": names} if wrapped == "module." else names, file)
    again, notes = begun(task, f'[{{from: "{file}", as: vlmo}}]')
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not told_left(notes)


def test_a_fine_tuned_file_fills_what_it_has_and_names_the_rest(tmp_path: Path) -> None:
    vqa, pretrained = random(made("vqa")), random(made("pretrain"))
    both = {**vlmo.export_state(weights_of(pretrained)), **vlmo.export_state(weights_of(vqa))}
    save_file({**both, "strange.weight": torch.ones(2)}, tmp_path / "vqa.safetensors")
    again, notes = begun("vqa", f'[{{from: "{tmp_path / "vqa.safetensors"}", as: vlmo}}]')
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in vqa.state_dict().items())
    left = told_left(notes)
    assert "mlm_head.bias" in left and left.endswith("and 3 more")
    imported = vlmo.import_state({**both, "strange.weight": torch.ones(2)}, Filled(weights_of(vqa), {}, ()))
    assert imported.left == ("strange.weight",)
    assert vlmo.export_state(imported.tensors).keys() == both.keys()


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("below", ["model.", "module.model.", "ema"])
def test_a_file_in_half_precision_below_other_names_is_read(precision: torch.dtype, below: str, tmp_path: Path) -> None:
    state = vlmo.export_state(weights_of(random(made("retrieval"))))
    short = {name: tensor.to(precision) for name, tensor in state.items()}
    file, prefix = tmp_path / "vlmo.pt", below if below.endswith(".") else ""
    content: dict[str, Any] = {f"{prefix}{name}": tensor for name, tensor in short.items()}
    torch.save({"model": state, "model_ema": content, "epoch": 3} if below == "ema" else content, file)
    chosen = ", in: model_ema" if below == "ema" else ""
    model, notes = begun("retrieval", f'[{{from: "{file}", as: vlmo{chosen}}}]')
    filled = vlmo.export_state(weights_of(model))
    assert filled.keys() == short.keys() and not told_left(notes)
    assert all(torch.equal(tensor, short[name].float()) for name, tensor in filled.items())


@pytest.mark.parametrize(("before", "after"), [(224, 384), (224, 480), (64, 32)])
@pytest.mark.parametrize("task", ["retrieval", "absolute"])
def test_a_file_of_another_size_of_picture_fills_a_model(task: str, before: int, after: int, tmp_path: Path) -> None:
    model = random(made(task, f"inputs.image.size={before}"))
    save_file(vlmo.export_state(weights_of(model)), tmp_path / "vlmo.safetensors")
    start = f'[{{from: "{tmp_path / "vlmo.safetensors"}", as: vlmo}}]'
    again, notes = begun(task, start, f"inputs.image.size={after}")
    ours, stored = weights_of(again), weights_of(model)
    tables = {name for name in ours if name.endswith("relative_bias.table") or name == "patches_of.positions"}
    assert tables and all(torch.equal(ours[name], stored[name]) for name in ours.keys() - tables)
    for name in tables:
        assert any(line.startswith(name) and "resized" in line for line in notes)
        if name == "patches_of.positions":
            assert torch.equal(ours[name][0], stored[name][0])
            patches = resize_grid(stored[name][1:], (after // 16) ** 2, antialias=False)
            assert torch.equal(ours[name][1:], patches)
            continue
        sides = [2 * (size // 16) - 1 for size in (before, after)]
        assert torch.equal(ours[name][sides[1] ** 2 :], stored[name][sides[0] ** 2 :])
        assert torch.equal(ours[name][: sides[1] ** 2], resize_distances(stored[name][: sides[0] ** 2], *sides))


def test_a_second_picture_begins_with_the_type_of_the_first(tmp_path: Path) -> None:
    pretrained = random(made("pretrain"))
    save_file(vlmo.export_state(weights_of(pretrained)), tmp_path / "pairs.safetensors")
    model, _ = begun("nlvr2", f'[{{from: "{tmp_path / "pairs.safetensors"}", as: vlmo}}, {{new: [judge]}}]')
    types = model.student.patches_of.types
    assert len(types) == 2
    assert torch.equal(types[0], types[1]) and torch.equal(types[:1], pretrained.student.patches_of.types)


def stage_2(model: Model) -> dict[str, Tensor]:
    """A file of the stage of words: no vision-language expert, and heads for words alone."""
    names = re.compile(r"norm2_vl|mlp_vl|itm_score|itc|logit")
    return {name: tensor for name, tensor in vlmo.export_state(weights_of(model)).items() if not names.search(name)}


def test_where_upper_begins_is_read_off_the_model_for_a_file_of_the_stage_of_words(tmp_path: Path) -> None:
    words = random(made("pretrain"))
    save_file(stage_2(words), tmp_path / "stage2.safetensors")
    file = f'{{from: "{tmp_path / "stage2.safetensors"}", as: vlmo}}'
    model, notes = begun("pretrain", f'[{file}, {{new: ["**"]}}]', "~stages.language")
    for name, tensor in words.state_dict().items():
        if "vision_language" not in name and name.split(".")[1] in ("lower", "upper", "words_of", "mlm_head"):
            assert torch.equal(tensor, model.state_dict()[name]), name
    assert not told_left(notes)
    other = ("components.lower.depth=1", "components.lower.layers_after=2", "components.upper.depth=2",
             "components.upper.layers_before=1")  # fmt: skip
    moved, _ = begun("pretrain", f'[{file}, {{new: ["**"]}}]', *other)
    ours, expected = moved.student.upper.layers[0].ffn_scale, words.student.lower.layers[1].ffn_scale
    assert torch.equal(ours, expected), "the same file, where upper begins a layer earlier"
    save_file(vlmo.export_state(weights_of(words)), tmp_path / "pairs.safetensors")
    with pytest.raises(UserError, match="begins at layer 2, and `upper` of this model at 1") as caught:
        begun("pretrain", f'[{{from: "{tmp_path / "pairs.safetensors"}", as: vlmo}}, {{new: ["**"]}}]', *other)
    assert "components.lower.depth=2 components.upper.depth=1" in caught.value.problems[0].hints


# --- BEiT ---------------------------------------------------------------------------------------------------------


def beit(grid: int = 4, *, final_norm: bool = False, shared: bool = False) -> dict[str, Tensor]:
    """A small file as microsoft/unilm's BEiT saves it after fine-tuning."""
    torch.manual_seed(1)
    rows = (2 * grid - 1) ** 2 + 3
    state = {"cls_token": torch.randn(1, 1, WIDTH), "patch_embed.proj.weight": torch.randn(WIDTH, 3, 16, 16),
             "patch_embed.proj.bias": torch.randn(WIDTH)}  # fmt: skip
    for i in range(LOWER + UPPER):
        shapes = {"norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,), "attn.qkv.weight": (3 * WIDTH, WIDTH),
                  "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,), "attn.proj.weight": (WIDTH, WIDTH),
                  "attn.proj.bias": (WIDTH,), "gamma_1": (WIDTH,), "gamma_2": (WIDTH,), "norm2.weight": (WIDTH,),
                  "norm2.bias": (WIDTH,), "mlp.fc1.weight": (4 * WIDTH, WIDTH), "mlp.fc1.bias": (4 * WIDTH,),
                  "mlp.fc2.weight": (WIDTH, 4 * WIDTH), "mlp.fc2.bias": (WIDTH,)}  # fmt: skip
        state |= {f"blocks.{i}.{name}": torch.randn(shape) for name, shape in shapes.items()}
        state[f"blocks.{i}.attn.relative_position_index"] = torch.zeros(grid**2 + 1, grid**2 + 1, dtype=torch.long)
        if not shared:
            state[f"blocks.{i}.attn.relative_position_bias_table"] = torch.randn(rows, HEADS)
    if shared:
        state["rel_pos_bias.relative_position_bias_table"] = torch.randn(rows, HEADS)
        state["mask_token"] = torch.zeros(1, 1, WIDTH)
    for name in ("norm",) if final_norm else ("fc_norm", "head"):
        state |= {f"{name}.weight": torch.randn(WIDTH), f"{name}.bias": torch.randn(WIDTH)}
    return state


BEIT = '[{{from: "{file}", as: beit}}, {{new: ["**"]}}]'


@pytest.mark.parametrize("shared", [False, True])
def test_a_beit_file_fills_the_pictures_half_of_both_stacks(shared: bool, tmp_path: Path) -> None:
    state = beit(final_norm=shared, shared=shared)
    save_file(state, tmp_path / "beit.safetensors")
    model, notes = begun("pretrain", BEIT.format(file=tmp_path / "beit.safetensors"))
    ours = dict(model.components.state_dict())
    for number, home in enumerate(("lower.layers.0", "lower.layers.1", "upper.layers.0")):
        block = f"blocks.{number}"
        assert torch.equal(ours[f"{home}.experts.vision.ffn.fc1.weight"], state[f"{block}.mlp.fc1.weight"])
        assert torch.equal(ours[f"{home}.self_attention.branch.q_bias"], state[f"{block}.attn.q_bias"])
        assert torch.equal(ours[f"{home}.ffn_scale"], state[f"{block}.gamma_2"])
    places = {name: BiasRows(4, FRAME).across for name in ("lower", "upper")}
    for name, numbers in (("lower", (0, 1)), ("upper", (2,))):
        table = ours[f"{name}.relative_bias.table"]
        own = "rel_pos_bias" if shared else "blocks.{}.attn"
        columns = [state[f"{own.format(i)}.relative_position_bias_table"] for i in numbers]
        assert torch.equal(table[: places[name]], torch.cat(columns, 1))
        assert not table[places[name] :].any(), "rows of words and across stay as they begin"
    assert torch.equal(ours["upper.norm.weight"], state["norm.weight"] if shared else torch.ones(WIDTH))
    expected = "mask_token" if shared else "fc_norm.bias, fc_norm.weight, head.bias, head.weight"
    assert told_left(notes).endswith(expected)


def test_beits_table_is_resized_to_another_size_of_picture(tmp_path: Path) -> None:
    state = beit(grid=3)
    save_file(state, tmp_path / "beit.safetensors")
    model, _ = begun("pretrain", BEIT.format(file=tmp_path / "beit.safetensors"))
    table = state["blocks.2.attn.relative_position_bias_table"]
    ours = model.student.upper.relative_bias.table
    assert torch.equal(ours[:49], resize_distances(table[:25], 5, 7)) and torch.equal(ours[49:52], table[25:])


@pytest.mark.parametrize(
    ("start", "message", "hint"),
    [
        (
            '[{{from: "{file}", as: beit, to: upper}}, {{new: ["**"]}}]',
            "both of VLMo's stacks, not `upper` alone",
            "to`",
        ),
        ('[{{from: "{file}", to: upper}}, {{new: ["**"]}}]', "both of VLMo's stacks, not `upper` alone", "as: beit"),
        ('[{{from: "{file}", as: beit, to: lower}}, {{new: ["**"]}}]', "not `lower` alone", "to` out"),
    ],
)
def test_a_beit_file_for_one_stack_alone_is_refused(start: str, message: str, hint: str, tmp_path: Path) -> None:
    save_file(beit(), tmp_path / "beit.safetensors")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        begun("pretrain", start.format(file=tmp_path / "beit.safetensors"))
    (problem,) = caught.value.problems
    assert hint in problem.hints[0] and problem.span is not None


def test_a_beit_file_that_does_not_fit_says_how(tmp_path: Path) -> None:
    save_file(beit(), tmp_path / "beit.safetensors")
    start = BEIT.format(file=tmp_path / "beit.safetensors")
    deeper = ("components.lower.depth=3", "components.upper.layers_before=3")
    with pytest.raises(UserError, match="BEiT has 3 layers, and the model 4: `lower` 3 and `upper` 1"):
        begun("pretrain", start, *deeper)
    with pytest.raises(UserError, match="BEiT has biases of attention, and `lower` none") as caught:
        begun("absolute", start, "components.lower.layer_scale=0.1", "components.upper.layer_scale=0.1")
    assert "`components.lower.positions: relative`" in caught.value.problems[0].hints
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no state dict of BEiT"):
        begun("pretrain", BEIT.format(file=tmp_path / "other.safetensors"))


def test_only_embeddings_of_a_beit_file_may_be_taken(tmp_path: Path) -> None:
    save_file(beit(), tmp_path / "beit.safetensors")
    start = f'[{{from: "{tmp_path / "beit.safetensors"}", as: beit, to: patches_of}}, {{new: ["**"]}}]'
    model, _ = begun("pretrain", start)
    assert torch.equal(model.student.patches_of.cls, beit()["cls_token"][0, 0])


# --- commands of headers ------------------------------------------------------------------------------------------


def header_starts() -> list[tuple[str, str]]:
    """What `start` is in the commands and lists of the headers of VLMo's blueprints and tasks, by file."""
    actual = []
    for file in [
        *sorted((ROOT / "blueprints").glob("vlmo_*.yaml")),
        *sorted((ROOT / "blueprints/tasks/vlmo").glob("*.yaml")),
    ]:
        text = "\n".join(line.lstrip("# ") for line in file.read_text().split("\n") if line.startswith("#"))
        text = text.replace("\\\n", " ")
        lists = [*re.findall(r"Start +start: (\[\{.*?\}\])", text)]
        for line in text.split("\n"):
            if line.startswith("compose-vlp train"):
                lists += [w.removeprefix("start=") for w in shlex.split(line) if w.startswith("start=")]
        actual += [(file.stem, start) for start in lists]
    return actual


def test_headers_say_how_their_models_start() -> None:
    starts = header_starts()
    assert {name for name, _ in starts} == {"vlmo_base", "vlmo_base_plus", "vlmo_large", "nlvr2", "vqa"}
    assert sum("as: beit" in start for _, start in starts) == 1 and sum("stage2" in start for _, start in starts) == 1


@pytest.mark.parametrize(("name", "start"), header_starts(), ids=lambda text: text[:60])
def test_the_start_of_each_header_fills_a_small_model(
    name: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = {"vlmo_base_plus": "absolute", "nlvr2": "nlvr2", "vqa": "vqa"}.get(name, "pretrain")
    judged = "judge" in start and task in ("pretrain", "absolute")
    source = random(made("absolute" if name == "vlmo_base_plus" else "pretrain"))
    (file,) = re.findall(r"from: ([\w.]+)", start)
    made_of: Any = beit() if "beit" in file else stage_2(source) if "stage2" in file else None
    torch.save(made_of or vlmo.export_state(weights_of(source)), file)
    if judged:
        start = start.replace(", {new: [judge]}", "")
    model, notes = begun(task, start)
    assert notes and "weights" in notes[0]
    if made_of is None:
        assert torch.equal(model.student.words_of.embedding.weight, source.student.words_of.embedding.weight)


@pytest.mark.parametrize("broken", ["types", "layers", "columns"])
def test_a_broken_file_is_told_of(broken: str) -> None:
    ours = weights_of(made("pretrain"))
    state = dict(vlmo.export_state(ours))
    if broken == "types":
        del state["token_type_embeddings.weight"]
    elif broken == "layers":
        state = {name: tensor for name, tensor in state.items() if "blocks" not in name}
    else:
        state["relative_position_bias_table"] = state["relative_position_bias_table"][:, :5]
    with pytest.raises(UserError, match="no 2 parts" if broken == "columns" else "parts missing"):
        vlmo.import_state(state, Filled(ours, {}, ()))

"""VQ-KD's files, made small: every tensor has a place, and the tokenizer gives the codes of a plain second writing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import vqkd
from compose_vlp.interop.rules import to_theirs
from compose_vlp.interop.start import components_of, start
from compose_vlp.values import Image
from tests.support import assert_near

WIDTH, HEADS, PATCH, GRID, CODES, CODE_WIDTH, OUT = 12, 2, 4, 3, 7, 5, 6
SMALL = (
    f"inputs.image.size={PATCH * GRID}", f"components.code_patches={{width: {WIDTH}, patch: {PATCH}}}",
    f"components.code_tower={{depth: 2, heads: {HEADS}}}", f"components.decoder={{depth: 1, heads: {HEADS}}}",
    f"components.codebook={{size: {CODES}, code_width: {CODE_WIDTH}}}", f"components.decoder_patches.width={WIDTH}",
    f"components.*_map.out={OUT}", f"components.teacher={{width: 8, depth: 1, heads: 2, patch: {PATCH}}}",
)  # fmt: skip


def tower(prefix: str, depth: int, proj: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH), "pos_embed": (1, GRID**2 + 1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, *proj), "patch_embed.proj.bias": (WIDTH,),
        "fc_norm.weight": (WIDTH,), "fc_norm.bias": (WIDTH,),
    }  # fmt: skip
    for i in range(depth):
        block = {"attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,)}
        block |= {"attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,)}
        block |= {"mlp.fc1.weight": (4 * WIDTH, WIDTH), "mlp.fc1.bias": (4 * WIDTH,)}
        block |= {"mlp.fc2.weight": (WIDTH, 4 * WIDTH), "mlp.fc2.bias": (WIDTH,)}
        block |= {f"norm{n}.{suffix}": (WIDTH,) for n in (1, 2) for suffix in ("weight", "bias")}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def official() -> dict[str, Tensor]:
    """A state dict with the names and layout of modeling_vqkd.py, in float64."""
    shapes = tower("encoder", 2, (3, PATCH, PATCH)) | tower("decoder", 1, (CODE_WIDTH, 1, 1))
    for name, out in (("encode_task_layer", CODE_WIDTH), ("decode_task_layer", OUT)):
        shapes |= {f"{name}.0.weight": (WIDTH, WIDTH), f"{name}.0.bias": (WIDTH,)}
        shapes |= {f"{name}.2.weight": (out, WIDTH), f"{name}.2.bias": (out,)}
    shapes |= {f"quantize.embedding.{name}": (CODES, CODE_WIDTH) for name in ("weight", "embed_avg")}
    shapes |= {"quantize.cluster_size": (CODES,), "quantize.embedding.cluster_size": (CODES,)}
    noise = torch.Generator().manual_seed(5)
    state = {name: torch.randn(shape, generator=noise, dtype=torch.float64) * 0.5 for name, shape in shapes.items()}
    state["quantize.embedding.weight"] = F.normalize(state["quantize.embedding.weight"], dim=1)
    return state | {"quantize.embedding.initted": torch.ones(1, dtype=torch.float64)}


def run_tower(state: dict[str, Tensor], prefix: str, x: Tensor, depth: int) -> Tensor:
    """BEiT's ViT as modeling_finetune.py has it, with `return_patch_tokens`."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{prefix}.{name}.weight"], state[f"{prefix}.{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{prefix}.{name}.weight"], state[f"{prefix}.{name}.bias"])

    proj = state[f"{prefix}.patch_embed.proj.weight"]
    x = F.conv2d(x, proj, state[f"{prefix}.patch_embed.proj.bias"], stride=proj.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat((state[f"{prefix}.cls_token"].expand(len(x), -1, -1), x), 1) + state[f"{prefix}.pos_embed"]
    for i in range(depth):
        block = f"blocks.{i}"
        q_bias, v_bias = (state[f"{prefix}.{block}.attn.{name}_bias"] for name in "qv")
        qkv = F.linear(norm(x, f"{block}.norm1"), state[f"{prefix}.{block}.attn.qkv.weight"])
        qkv = qkv + torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
        q, k, v = qkv.reshape(len(x), -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = (q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1) @ v
        x = x + linear(seen.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return norm(x[:, 1:], "fc_norm")


def run(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `[batch, patches]` and what the decoder makes of them, as `VQKD.encode` and `.decode` have it."""

    def task(x: Tensor, name: str) -> Tensor:
        inner = F.linear(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"]).tanh()
        return F.linear(inner, state[f"{name}.2.weight"], state[f"{name}.2.bias"])

    z = F.normalize(task(run_tower(state, "encoder", pixels, 2), "encode_task_layer"), dim=-1)
    table = state["quantize.embedding.weight"]
    distance = z.square().sum(-1, keepdim=True) + table.square().sum(1) - 2 * z @ table.T
    codes = distance.argmin(-1)
    grid = table[codes].transpose(1, 2).unflatten(2, (GRID, GRID))
    return codes, task(run_tower(state, "decoder", grid, 1), "decode_task_layer")


def tokenizer(file: Path, size: int = PATCH * GRID) -> tuple[CheckedBlueprint, Model]:
    items = f"[{{from: {file}, as: vqkd}}, {{new: [teacher, teacher_map]}}]"
    overrides = [f"inputs.image.size={size}", *SMALL[1:], f"start={items}"]
    checked = Blueprint.load("vqkd_base", overrides=overrides).check()
    return checked, build(checked, "cpu", 0).double().eval()


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_file_of_the_authors_gives_the_codes_and_features_of_their_model(tmp_path: Path, key: str) -> None:
    state = official()
    extra = {"teacher_model.visual.proj": torch.ones(2), "scaling_layer.shift": torch.ones(3), "loss.w": torch.ones(1)}
    torch.save({key: {**state, **extra}, "epoch": 99}, tmp_path / "vqkd.pth")
    checked, model = tokenizer(tmp_path / "vqkd.pth")
    notes = start(components_of(checked, model), checked.start)
    assert not [name for names in notes.unused.values() for name in names]
    student = model.student
    pixels = torch.randn(2, 3, PATCH * GRID, PATCH * GRID, dtype=torch.float64)
    coded = student.codebook(student.code_tower(student.code_patches(Image(pixels))).tokens)
    codes, features = run(state, pixels)
    assert torch.equal(coded.codes.ids, codes)
    assert len(codes.unique()) > 2
    rebuilt = student.decoder_map(student.decoder(student.decoder_patches(coded.quantised)).tokens)
    assert_near(rebuilt.features, features)
    assert bool(student.codebook.started), "training goes on from these codes"


def test_every_tensor_has_one_place_and_finds_the_way_back() -> None:
    state = official()
    ours = vqkd.import_state(state)
    back = to_theirs(vqkd.rules(vqkd.Layout.of(state)), ours)
    assert state.keys() - back.keys() == set(vqkd.STATISTICS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())


def test_codes_of_a_file_that_does_not_say_so_have_begun_too() -> None:
    state = official()
    del state[vqkd.STARTED]
    assert vqkd.import_state(state)["codebook.started"].tolist() == [1]


def test_what_is_missing_or_unknown_is_said() -> None:
    with pytest.raises(UserError, match="no state dict of VQ-KD"):
        vqkd.import_state({"encoder.cls_token": torch.ones(1)})
    state = official()
    del state["encoder.blocks.1.attn.q_bias"]
    state["encoder.blocks.1.gamma_1"] = torch.ones(WIDTH)
    with pytest.raises(UserError) as raised:
        vqkd.import_state(state)
    hints = " ".join(raised.value.problems[0].hints)
    assert "missing: encoder.blocks.1.attn.q_bias" in hints and "unexpected: encoder.blocks.1.gamma_1" in hints


def test_a_tokenizer_of_another_grid_is_resized(tmp_path: Path) -> None:
    torch.save({"model": official()}, tmp_path / "vqkd.pth")
    checked, model = tokenizer(tmp_path / "vqkd.pth", PATCH * 4)
    notes = start(components_of(checked, model), checked.start)
    assert any(note.startswith("code_patches.positions: 3 x 3 patches resized to 4 x 4") for note in notes.notes)
    assert model.student.code_patches.positions.shape == (17, WIDTH)

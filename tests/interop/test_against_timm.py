"""The picture's branch of VLMo and BEiT-3 against timm's `Beit` and `beit3_*`, keys converted by both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.interop import beit3
from compose_vlp.interop.rules import to_theirs
from compose_vlp.interop.weights import weights_of
from compose_vlp.values import Image
from tests.interop.test_vlmo_files import BEIT, begun
from tests.support import assert_near


def random(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def assert_same_branch(ours: Any, reference: Any, side: int) -> None:
    """Features and gradients of pixels, in float64."""
    torch.manual_seed(2)
    pixels = torch.randn(2, 3, side, side, dtype=torch.double)
    actual = []
    for branch in (ours, reference):
        given = pixels.clone().requires_grad_()
        features: Tensor = branch(given)
        (features * torch.linspace(0, 1, features.numel(), dtype=torch.double).view_as(features)).sum().backward()
        assert given.grad is not None
        actual.append((features.detach(), given.grad))
    for mine, other, what in zip(*actual, ("features", "gradients"), strict=True):
        assert_near(mine, other, what=what)


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "plain"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_vlmos_pictures_are_timms_beit(relative: bool, scaled: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    reference = random(
        timm.create_model(
            "beit_base_patch16_224", embed_dim=16, depth=3, num_heads=2, img_size=64, num_classes=0, global_pool="",
            use_rel_pos_bias=relative, use_abs_pos_emb=not relative, init_values=0.1 if scaled else 0.0,
        )
    ).eval()  # fmt: skip
    save_file(reference.state_dict(), tmp_path / "beit.safetensors")
    scales = [f"components.{stack}.layer_scale={0.1 if scaled else 'null'}" for stack in ("lower", "upper")]
    scales += ["~stages.language"] if relative else []  # it names these scales
    start = BEIT.format(file=tmp_path / "beit.safetensors")
    model, notes = begun("pretrain" if relative else "absolute", start, *scales)
    assert not any("left over" in line for line in notes)
    m = model.double().eval().student
    nn.init.zeros_(m.patches_of.types)  # BEiT has none
    assert_same_branch(
        lambda pixels: m.upper(m.lower(m.patches_of(Image(pixels)))).features, reference.double().forward_features, 64
    )


@pytest.mark.parametrize("name", ["beit3_base_patch16_224", "beit3_large_patch16_224", "beit3_giant_patch14_224"])
def test_beit3s_pictures_are_timms(name: str) -> None:
    torch.manual_seed(1)
    patch = 14 if "giant" in name else 16
    side = 4 * patch
    overrides = [
        "components.patches_of.width=16", f"components.patches_of.patch={patch}", "components.words_of.width=16",
        "components.words_of.length=20", f"inputs.image={{type: image, size: {side}}}", "inputs.caption.max_length=12",
        "components.spm={use: ids, vocab_size: 60, begin: '0', pad: '1', end: '2', mask: '3'}",
        "components.backbone={depth: 3, heads: 2, drop_path: 0, final_norm: false}",
        "components.image_proj.out=16", "components.text_proj.out=16",
    ]  # fmt: skip
    checked = Blueprint.load("beit3_base", "tasks/beit3/retrieval", overrides=overrides).check()
    model = random(build(checked, seed=0))
    own = {path: tensor for path, tensor in weights_of(model).items() if path.split(".")[0] in READ}
    layout = beit3.Layout(task="pretrain", depth=3, final_norm=False, words=False, codes=False)
    official = to_theirs(beit3.rules(layout), own)
    reference = timm.create_model(
        name,
        embed_dim=16,
        depth=3,
        num_heads=2,
        mlp_ratio=4,
        img_size=side,
        num_classes=0,
        global_pool="",
        final_norm=False,
    ).eval()
    reference.load_state_dict(checkpoint_filter_fn(dict(official), reference))
    m = model.double().eval().student  # type: ignore[union-attr]
    assert_same_branch(
        lambda pixels: m.backbone(m.patches_of(Image(pixels))).features, reference.double().forward_features, side
    )


READ = ("patches_of", "words_of", "backbone")
"""The components that BEiT-3's files have without a head."""

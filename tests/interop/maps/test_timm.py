"""timm's weights give timm's numbers, in our ViT and in the component `timm`, at any size of image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from compose_vlp.blueprint.sections import Start
from compose_vlp.components.encoders.timm_encoder import TimmEncoder
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.errors import UserError
from compose_vlp.interop.start import Component, Started, start
from compose_vlp.values import Image
from compose_vlp.values.tables import resize_grid
from tests.support import assert_near

pytestmark = pytest.mark.usefixtures("double")

SIZES = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 4}


def timm_model(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    """A model of timm's with random weights, its biases and positions included."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **{**SIZES, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def ours(**settings: Any) -> VisionTransformer:
    config = {"width": 32, "depth": 2, "heads": 4, "patch": 16, "size": 32, **settings}
    return VisionTransformer(VisionTransformer.Config(**config)).eval()


def bring(
    module: torch.nn.Module, kind: str, file: Path | str, *more: dict[str, Any], form: str | None = None
) -> Started:
    items = [{"from": str(file), "to": ("vision",), **({"as": form} if form else {})}, *more]
    return start({"vision": Component(module, kind)}, [Start.model_validate(item) for item in items])


def saved(model: torch.nn.Module, tmp_path: Path) -> Path:
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"


@pytest.mark.parametrize("form", ["timm", None])
def test_our_vit_gives_timms_numbers(tmp_path: Path, form: str | None) -> None:
    model, vit = timm_model(), ours()
    notes = bring(vit, "vit", saved(model, tmp_path), form=form)
    pixels = torch.randn(3, 3, 32, 32)
    assert_near(vit(Image(pixels)).features, model.forward_features(pixels))
    assert set(notes.unused[str(tmp_path / "timm.safetensors")]) == {"head.weight", "head.bias"}
    assert notes.new == []


def test_our_vit_gives_the_numbers_of_clips_layout_in_timm(tmp_path: Path) -> None:
    model = timm_model("vit_base_patch16_clip_224", global_pool="token")
    vit = ours(embedding_norm=True, patch_bias=False, norm_eps=1e-5)
    bring(vit, "vit", saved(model, tmp_path))
    pixels = torch.randn(3, 3, 32, 32)
    assert_near(vit(Image(pixels)).features, model.forward_features(pixels))


@pytest.mark.parametrize("size", [16, 48, 64])
def test_positions_are_resized_as_timm_resizes_them(tmp_path: Path, size: int) -> None:
    model, vit = timm_model(), ours(size=size)
    notes = bring(vit, "vit", saved(model, tmp_path))
    larger = timm.create_model("vit_tiny_patch16_224", num_classes=7, **{**SIZES, "img_size": size}).eval()
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(model.state_dict(), larger)
    larger.load_state_dict(filtered)
    pixels = torch.randn(3, 3, size, size)
    assert_near(vit(Image(pixels)).features, larger.forward_features(pixels))
    side = size // 16
    assert f"vision.positions: 2 x 2 patches resized to {side} x {side}" in notes.lines()


def test_a_vit_without_a_cls_leaves_the_files_out_and_says_so(tmp_path: Path) -> None:
    model, vit = timm_model(), ours(cls="none")
    notes = bring(vit, "vit", saved(model, tmp_path))
    assert torch.equal(vit.positions.detach(), model.pos_embed[0, 1:].detach())
    assert "vision.positions: the row of the CLS is left out" in notes.lines()
    assert "cls_token" in notes.unused[str(tmp_path / "timm.safetensors")]


def test_a_cls_that_the_file_has_not_is_an_error(tmp_path: Path) -> None:
    model = timm_model("vit_base_patch16_siglip_224")
    with pytest.raises(UserError, match="has no row for a CLS"):
        bring(ours(), "vit", saved(model, tmp_path))


def test_a_shallower_vit_takes_the_first_layers_and_lists_the_others(tmp_path: Path) -> None:
    vit = ours(depth=1)
    notes = bring(vit, "vit", saved(timm_model(), tmp_path))
    assert any(name.startswith("blocks.1.") for name in notes.unused[str(tmp_path / "timm.safetensors")])


@pytest.mark.parametrize(
    ("name", "options", "thing"),
    [
        ("vit_tiny_patch16_224", {"init_values": 0.1}, "layer scale"),
        ("vit_tiny_patch16_224", {"reg_tokens": 2}, "register tokens"),
        ("deit_tiny_distilled_patch16_224", {}, "a distillation token"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "norms of queries"),
    ],
)
def test_what_our_vit_does_not_compute_is_refused(tmp_path: Path, name: str, options: Any, thing: str) -> None:
    with pytest.raises(UserError, match=thing):
        bring(ours(), "vit", saved(timm_model(name, **options), tmp_path))


def test_another_width_is_told_with_both_shapes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other shape") as caught:
        bring(ours(width=64), "vit", saved(timm_model(), tmp_path))
    assert any("vision.cls is [64] here and [32] in" in hint for hint in caught.value.problems[0].hints)


def test_positions_of_no_square_are_refused() -> None:
    with pytest.raises(UserError, match="positions of 5 patches cannot be resized to 9"):
        resize_grid(torch.zeros(5, 3), 9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 4}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}),
        ("test_resnet", {}),
    ],
)
def test_a_timm_tower_is_filled_from_timms_own_file(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    fixed = {} if name == "test_resnet" else {"img_size": 64}
    model = timm.create_model(name, num_classes=7, **options, **fixed).eval()
    tower = TimmEncoder(TimmEncoder.Config(model=name, options=options, size=64)).eval()
    notes = bring(tower, "timm", saved(model, tmp_path))
    pixels = torch.randn(2, 3, 64, 64)
    features = model.forward_features(pixels)
    if features.ndim == 4:
        features = features.flatten(1, 2) if name.startswith("swin") else features.flatten(2).transpose(1, 2)
    assert_near(tower(Image(pixels)).features, features)
    assert all("fc" in left or "head" in left for left in notes.unused[str(tmp_path / "timm.safetensors")])


def test_a_timm_tower_of_another_size_is_resized_by_timm_and_told(tmp_path: Path) -> None:
    model = timm_model(depth=1)
    options = {"embed_dim": 32, "depth": 1, "num_heads": 4}
    tower = TimmEncoder(TimmEncoder.Config(model="vit_tiny_patch16_224", options=options, size=64))
    notes = bring(tower, "timm", saved(model, tmp_path))
    assert "vision.model.pos_embed: [1, 5, 32] made [1, 17, 32] by timm" in notes.lines()


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module._orig_mod.model."])
def test_a_timm_tower_of_a_wrapped_checkpoint_is_resized_all_the_same(tmp_path: Path, prefix: str) -> None:
    options = {"embed_dim": 32, "depth": 1, "num_heads": 4}
    tower = TimmEncoder(TimmEncoder.Config(model="vit_tiny_patch16_224", options=options, size=64))
    state = {f"{prefix}{name}": tensor for name, tensor in timm_model(depth=1).state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.0"}, tmp_path / "last.ckpt")
    notes = bring(tower, "timm", tmp_path / "last.ckpt")
    assert "vision.model.pos_embed: [1, 5, 32] made [1, 17, 32] by timm" in notes.lines()
    assert len(notes.filled) == len(tower.state_dict())


def test_an_official_deit_file_with_its_wrapper_is_read(tmp_path: Path) -> None:
    model, vit = timm_model(), ours()
    torch.save({"model": model.state_dict()}, tmp_path / "deit.pth")
    bring(vit, "vit", tmp_path / "deit.pth")
    pixels = torch.randn(1, 3, 32, 32)
    assert_near(vit(Image(pixels)).features, model.forward_features(pixels))

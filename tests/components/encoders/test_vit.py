"""Our vision transformer: tokens in their places, variants by settings, mistakes told before anything is built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compose_vlp import registry
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.graph.types import ImageType, SequenceType
from compose_vlp.values import Image

Config = VisionTransformer.Config


def vit(**settings: Any) -> VisionTransformer:
    return VisionTransformer(Config(**{"width": 16, "depth": 2, "heads": 4, "patch": 8, "size": 32} | settings)).eval()


def pictures(size: int = 32, rows: int = 2) -> Image:
    return Image(torch.randn(rows, 3, size, size))


@pytest.mark.parametrize("stem", ["patch", "convolution"])
@pytest.mark.parametrize(("cls", "tokens"), [("first", 17), ("none", 16)])
def test_what_is_said_beforehand_is_what_comes_out(stem: str, cls: str, tokens: int) -> None:
    tower = vit(stem=stem, cls=cls)
    out = tower(pictures())
    output_type = registry.get(tower.kind_name).output(tower.config, {"image": ImageType(size=32)})
    assert isinstance(output_type, SequenceType)
    assert out.features.shape == (2, tokens, 16) == (2, output_type.sizes()["tokens"], output_type.width)
    assert [(p.name, p.length, p.cls) for p in out.parts] == [(p.name, p.length, p.cls) for p in output_type.parts]
    assert out.valid is None


def test_without_a_size_the_number_of_tokens_is_open() -> None:
    output_type = registry.get(VisionTransformer.kind_name).output(Config(), {"image": ImageType()})
    assert output_type.parts[0].length is None


def test_tokens_are_the_patches_row_by_row_after_the_cls() -> None:
    tower = vit(depth=0, final_norm=False, positions="none")
    image = pictures(rows=1)
    other = image.pixels.clone()
    other[:, :, 8:16, 24:32] += 1  # second row, last column
    changed = (tower(image).features != tower(Image(other)).features).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [1 + 4 + 3]


def test_without_positions_the_order_of_patches_is_not_seen() -> None:
    blind, seeing = vit(positions="none", cls="first"), vit(cls="first")
    image = pictures(rows=1)
    flipped = Image(image.pixels.unflatten(2, (4, 8)).flip(2).flatten(2, 3))
    assert torch.allclose(blind(image).cls.features, blind(flipped).cls.features, atol=1e-6)
    assert not torch.allclose(seeing(image).cls.features, seeing(flipped).cls.features, atol=1e-3)


def test_settings_decide_which_weights_there_are() -> None:
    def names(**settings: Any) -> set[str]:
        return {name.split(".")[0] for name in vit(**settings).state_dict()}

    assert names() == {"stem", "cls", "positions", "layers", "norm"}
    assert names(cls="none", positions="none", final_norm=False, embedding_norm=True) == {
        "stem",
        "layers",
        "embedding_norm",
    }
    biases = {
        n for n in vit(patch_bias=False, qkv_bias=False).state_dict() if n.endswith(("projection.bias", "qkv.bias"))
    }
    assert biases == set()


def test_the_mlp_is_four_widths_or_what_is_said() -> None:
    assert vit().state_dict()["layers.0.ffn.branch.fc1.weight"].shape == (64, 16)
    assert vit(mlp_width=40).state_dict()["layers.0.ffn.branch.fc1.weight"].shape == (40, 16)


def test_drop_path_rises_with_depth_and_rests_in_evaluation() -> None:
    tower = vit(depth=3, drop_path=0.4)
    rates = [layer.ffn.drop_path for layer in tower.layers]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    image = pictures()
    assert torch.equal(tower(image).features, tower(image).features)
    tower.train()
    assert not torch.equal(tower(image).features, tower(image).features)


def test_convolutions_upon_the_grid_come_after_the_halving_ones() -> None:
    tower = vit(stem="convolution", stem_depth=2)
    convolutions = [m for m in tower.stem.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted((m.stride[0], m.kernel_size[0]) for m in convolutions) == [(1, 1), (1, 3), (1, 3), *[(2, 3)] * 3]
    assert tower(pictures()).features.shape == (2, 17, 16)


def test_built_on_the_meta_device_it_has_shapes_and_no_numbers() -> None:
    with torch.device("meta"):
        tower = vit(stem="convolution")
        assert tower(pictures()).features.shape == (2, 17, 16)


@pytest.mark.parametrize(
    ("settings", "message", "hints"),
    [
        (
            {"patch": 18, "size": 64},
            "patch 18 does not divide size 64",
            ("patch: 16 or 32 for size 64", "size: 54 or 72 for patch 18"),
        ),
        (
            {"patch": 40, "size": 32},
            "patch 40 does not divide size 32",
            ("patch: 32 for size 32", "size: 40 for patch 40"),
        ),
        (
            {"heads": 5},
            "heads 5 does not divide width 768",
            ("heads: 4 or 6 for width 768", "width: 765 or 770 for heads 5"),
        ),
        (
            {"stem": "convolution", "patch": 12, "size": 48},
            "a convolutional stem halves the image, so patch 12 has to be a power of 2",
            ("patch: 8 or 16",),
        ),
        (
            {"stem_depth": 2},
            "a stem of one convolution has no depth, and `stem_depth` is 2",
            ("stem_depth: 0", "or stem: convolution"),
        ),
        (
            {"stem": "convolution", "patch_bias": False},
            "`patch_bias` is of a stem of one convolution; a stack of them has its own",
            ("patch_bias: true", "or stem: patch"),
        ),
    ],
)
def test_settings_that_do_not_go_together_are_told_with_the_nearest_that_do(
    settings: dict[str, Any], message: str, hints: tuple[str, ...]
) -> None:
    clashes = VisionTransformer.check(Config(**settings))
    assert [(clash.message, clash.hints) for clash in clashes] == [(message, hints)]


def test_settings_that_go_together_are_no_clash() -> None:
    assert VisionTransformer.check(Config(size=224)) == ()
    assert VisionTransformer.check(Config()) == ()

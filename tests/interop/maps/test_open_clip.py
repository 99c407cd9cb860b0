"""open_clip's towers give open_clip's numbers in our components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from compose_vlp.blueprint.sections import Start
from compose_vlp.components.decoders.causal_decoder import CausalDecoder
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.components.heads.projection import Projection
from compose_vlp.interop.start import Component, Started, start
from compose_vlp.values import Image, Part, Sequence, Text
from tests.support import assert_near

open_clip = pytest.importorskip("open_clip", reason="open_clip is an extra for tests")

pytestmark = pytest.mark.usefixtures("double")

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16}
TEXT = {"context_length": 9, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2}


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        16, open_clip.model.CLIPVisionCfg(**VISION), open_clip.model.CLIPTextCfg(**TEXT)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    file = tmp_path / "open_clip_model.safetensors"
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, file)
    return model, file


def bring(module: torch.nn.Module, kind: str, file: Path, name: str = "tower") -> Started:
    items = [Start.model_validate({"from": str(file), "to": (name,)})]
    return start({name: Component(module, kind, "embedding.weight")}, items)


@pytest.mark.parametrize("name", ["vision", "visual"])
def test_our_vit_gives_the_visual_towers_numbers(clip: tuple[Any, Path], name: str) -> None:
    model, file = clip
    settings = {"width": 32, "depth": 2, "heads": 4, "patch": 16, "size": 32, "norm_eps": 1e-5}
    vit = VisionTransformer(VisionTransformer.Config(**settings, embedding_norm=True, patch_bias=False)).eval()
    notes = bring(vit, "vit", file.parent, name)
    pixels = torch.randn(2, 3, 32, 32)
    pooled = vit(Image(pixels)).cls.features @ model.visual.proj
    assert_near(pooled, model.encode_image(pixels))
    assert "visual.proj" in notes.unused[str(file.parent)]
    assert "logit_scale" in notes.unused[str(file.parent)]


def test_a_projection_behind_our_vit_gives_the_features_of_every_patch(clip: tuple[Any, Path]) -> None:
    model, file = clip
    projection = Projection(Projection.Config(out=16, bias=False, width=32))
    notes = bring(projection, "projection", file)
    features = torch.randn(2, 5, 32)
    torch.testing.assert_close(
        projection(Sequence(features, (Part("vision", 0, 5),))).features, features @ model.visual.proj
    )
    assert "visual.conv1.weight" in notes.unused[str(file)]


@pytest.mark.parametrize("name", ["words", "text"])
def test_our_decoder_gives_the_text_towers_numbers(clip: tuple[Any, Path], name: str) -> None:
    model, file = clip
    config = CausalDecoder.Config(width=32, depth=2, heads=4, vocab_size=50, length=9)
    decoder = CausalDecoder(config).eval()
    notes = bring(decoder, "causal_decoder", file, name)
    ids = torch.randint(1, 48, (2, 9))
    ids[:, 5] = 49  # the largest id ends a text
    features = decoder(Text(ids, torch.tensor([9, 9]), 9)).features[:, 5] @ model.text_projection
    assert_near(features, model.encode_text(ids))
    assert "text_projection" in notes.unused[str(file)]

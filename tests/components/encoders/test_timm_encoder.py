"""Any timm model is a tower: its own numbers, its attention through ours, its shape known beforehand."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from compose_vlp import registry
from compose_vlp.components.attention import attend
from compose_vlp.components.encoders.timm_encoder import TimmEncoder
from compose_vlp.errors import UserError
from compose_vlp.graph.types import ImageType, RowSpace, SequenceType
from compose_vlp.values import Image
from tests.support import assert_near

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
MODELS = {  # name: (options, size, tokens, width, cls, attention calls)
    "vit_tiny_patch16_224": (SMALL, 32, 5, 32, "first", 2),
    "deit_tiny_distilled_patch16_224": (SMALL, 32, 5, 32, "first", 2),
    "vit_small_patch14_reg4_dinov2": (SMALL, 28, 5, 32, "first", 2),
    "vit_base_patch16_siglip_224": (SMALL, 32, 4, 32, "none", 2),
    "beit_base_patch16_224": (SMALL, 32, 5, 32, "first", 2),
    "eva02_tiny_patch14_224": (SMALL, 28, 5, 32, "first", 2),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 16, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 2]}, 64, 4, 128, "none", 5,
    ),
    "xcit_nano_12_p16_224": ({"embed_dim": 32, "depth": 1, "cls_attn_layers": 2}, 32, 5, 32, "first", 3),
    "visformer_tiny": ({"init_channels": 8, "embed_dim": 48, "depth": [0, 1, 1], "num_heads": 2}, 64, 4, 96, "none", 2),
    "test_convnext": ({}, 64, 4, 64, "none", 0),
    "test_resnet": ({}, 64, 4, 96, "none", 0),
    "inception_next_atto": ({"depths": [1, 1, 1, 1]}, 64, 4, 320, "none", 0),
    "mambaout_femto": ({"depths": [1, 1, 1, 1]}, 64, 4, 1152, "none", 0),
}  # fmt: skip


def encoder(name: str, **settings: Any) -> TimmEncoder:
    options, size = MODELS[name][:2]
    torch.manual_seed(0)
    return TimmEncoder(TimmEncoder.Config(model=name, options=options, size=size, **settings)).eval()


@pytest.fixture
def attention_calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    calls: list[torch.Size] = []
    real = attend.BACKENDS["sdpa"]

    def counted(queries: torch.Tensor, *others: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(queries.shape)
        return real(queries, *others, **options)

    monkeypatch.setitem(attend.BACKENDS, "sdpa", counted)
    return calls


def timms_own(tower: TimmEncoder, pixels: torch.Tensor) -> torch.Tensor:
    """What timm itself makes of these weights, with its attention as timm has it."""
    name = tower.config.model
    pool = {} if name.startswith(("deit", "inception")) else {"global_pool": ""}
    fixed = {"img_size": tower.config.size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    model = timm.create_model(name, num_classes=0, **fixed, **pool, **tower.config.options).eval()
    missing, unexpected = model.load_state_dict(tower.model.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("head") for key in missing)
    return model(pixels) if pool else model.forward_features(pixels)


@pytest.mark.parametrize("name", MODELS)
def test_a_tower_gives_timms_own_features_through_our_attention(name: str, attention_calls: list[torch.Size]) -> None:
    _, size, tokens, width, cls, calls = MODELS[name]
    tower = encoder(name)
    pixels = torch.randn(2, 3, size, size)
    out = tower(Image(pixels))
    assert len(attention_calls) == calls
    expected = timms_own(tower, pixels)
    assert len(attention_calls) == calls, "timm by itself does not go through us"
    if expected.ndim == 4:
        expected = expected.flatten(1, 2) if expected.shape[-1] == width else expected.flatten(2).transpose(1, 2)
    assert out.features.shape == (2, tokens, width)
    assert_near(out.features[:, -1], expected[:, -1], 1e-5)
    if cls == "first":
        assert_near(out.cls.features, expected[:, 0], 1e-5)
    assert out.parts[0].cls == cls


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224"])
def test_gradients_through_our_attention_are_timms(name: str) -> None:
    tower = encoder(name)
    pixels = torch.randn(2, 3, MODELS[name][1], MODELS[name][1])
    tower(Image(pixels)).features.square().mean().backward()
    ours = {n: p.grad.clone() for n, p in tower.named_parameters() if p.grad is not None}
    tower.zero_grad()
    tower.model(pixels).square().mean().backward()
    expected = {n: p.grad for n, p in tower.named_parameters() if p.grad is not None}
    assert ours.keys() == expected.keys() == dict(tower.named_parameters()).keys(), "and no weight is unused"
    for parameter, gradient in expected.items():
        assert_near(ours[parameter], gradient, 1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_its_shape_is_known_before_a_weight_exists(name: str) -> None:
    options, size, tokens, width, cls, _ = MODELS[name]
    config = TimmEncoder.Config(model=name, options=options, size=size)
    typed = registry.get(TimmEncoder.kind_name).output(
        config, {"image": ImageType(RowSpace("main"), size=size, root="image")}
    )
    assert isinstance(typed, SequenceType)
    assert (typed.width, typed.parts[0].length, typed.parts[0].cls) == (width, tokens, cls)
    grid = typed.parts[0].grid
    assert TimmEncoder.describe(config) == {"width": width, "tokens": tokens, "cls": cls, "grid": grid}
    assert TimmEncoder.check(config) == ()


def test_the_width_is_known_before_the_size_is() -> None:
    typed = registry.get(TimmEncoder.kind_name).output(TimmEncoder.Config(model="test_vit"), {"image": ImageType()})
    assert (typed.width, typed.parts[0].length) == (64, None)


def test_it_is_made_without_numbers_on_the_meta_device() -> None:
    with torch.device("meta"):
        tower = encoder("swin_tiny_patch4_window7_224")
        out = tower(Image(torch.zeros(2, 3, 64, 64)))
    assert out.features.shape == (2, 4, 128)


def test_blocks_are_skipped_in_training_alone() -> None:
    tower = encoder("vit_tiny_patch16_224", drop_path=0.9).train()
    image = Image(torch.randn(8, 3, 32, 32))
    assert not torch.equal(tower(image).features, tower(image).features)
    tower.eval()
    assert torch.equal(tower(image).features, tower(image).features)


COAT = {"serial_depths": [1, 1, 1, 1], "parallel_depth": 1}
ALL_THREE = ("model", "options", "size")


@pytest.mark.parametrize(
    ("settings", "message", "named"),
    [
        ({"model": "vit_tiny_patch16_242", "size": 32}, "timm has no `model` 'vit_tiny_patch16_242'", ("model",)),
        ({"model": "test_vit", "options": {"deep": 3}, "size": 32}, "unexpected keyword argument 'deep'", ALL_THREE),
        ({"model": "coat_mini", "options": COAT}, "gives no sequence of features", ("model",)),
        ({"model": "levit_128", "size": 48, "options": {"img_side": 3}}, "img_side", ALL_THREE),
        ({"model": "xcit_nano_12_p8_224", "size": 65}, "divide", ("model", "size")),
    ],
)
def test_what_timm_cannot_make_is_a_clash_of_settings(
    settings: dict[str, Any], message: str, named: tuple[str, ...]
) -> None:
    config = TimmEncoder.Config(**settings)
    (clash,) = TimmEncoder.check(config)
    assert message in clash.message
    assert clash.settings == named
    with pytest.raises(UserError):
        TimmEncoder(config)
    assert registry.get(TimmEncoder.kind_name).output(config, {"image": ImageType()}).sizes()["width"] is None, (
        "said once, by the clash"
    )
    assert TimmEncoder.describe(config) == {}


LOADS: list[dict[str, Any]] = [
    {"pretrained": True},
    {"pretrained": "true"},
    {"checkpoint_path": "weights.pth"},
    {"pretrained_cfg": {"file": "weights.pth"}},
    {"pretrained_cfg": {"url": "http://127.0.0.1:9/weights.pth"}},
    {"pretrained_cfg_overlay": {"hf_hub_id": "somebody/weights"}},
    {"cache_dir": "somewhere"},
    {"features_only": True},
    {"embed_args": {"pretrained": True}},
]


@pytest.mark.parametrize("options", LOADS, ids=range(len(LOADS)))
def test_options_that_load_weights_are_refused(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("timm was asked to make it")

    monkeypatch.setattr(timm, "create_model", called)
    config = TimmEncoder.Config(model="test_vit", size=32, options=options)
    (clash,) = TimmEncoder.check(config)
    assert "loads or changes what a tower is made of" in clash.message
    assert clash.settings == ("options",)
    assert "start: [{from: FILE" in clash.hints[0]


@pytest.mark.parametrize("model", ["hf-hub:timm/test_vit.r160_in1k", "local-dir:/tmp", "timm/test_vit", "../test_vit"])
def test_models_are_named_and_not_fetched(model: str) -> None:
    (clash,) = TimmEncoder.check(TimmEncoder.Config(model=model, size=32))
    assert "timm has no `model`" in clash.message


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    (clash,) = TimmEncoder.check(TimmEncoder.Config(model="swin_tiny_patch4_window7_242", size=32))
    assert "'swin_tiny_patch4_window7_224'" in clash.hints[0]


def test_options_are_read_as_plain_values() -> None:
    config = TimmEncoder.Config(model="test_vit", options={"depth": "3", "init_values": "1e-4", "depths": ["1", "2"]})
    assert config.options == {"depth": 3, "init_values": 1e-4, "depths": [1, 2]}

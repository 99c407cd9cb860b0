"""open_clip's CoCa and ours give the same numbers: on a recorded step, and live on fresh weights of other sizes."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compose_vlp.blueprint.sections import Start
from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop import open_clip_coca as names
from compose_vlp.interop.replays.open_clip_coca import ended, text_of
from compose_vlp.interop.start import initialiser
from compose_vlp.interop.verify import checked, verify
from compose_vlp.interop.weights import gradients_of, load_weights, weights_of
from compose_vlp.values import Image, Text
from tests.support import assert_near

ORACLE = "coca/pretrain"


# --- the recorded step ------------------------------------------------------------------------------------------


def test_the_recorded_step_gives_the_same_numbers(oracle: Callable[[str], Path]) -> None:
    folder = oracle(ORACLE)
    actual = verify(folder, "open_clip_coca")
    assert actual.failures == ()
    compared = {(row.kind, row.name) for row in actual.rows}
    held = {name for file in ("outputs", "grads") for name in load_file(folder / f"{file}.safetensors")}
    assert {name for kind, name in compared if kind != "gradient norm"} == held
    norms = json.loads((folder / "grad_norms.json").read_text())
    assert {name for kind, name in compared if kind == "gradient norm"} == norms.keys()
    assert norms.keys() == load_file(folder / "model.safetensors").keys()
    assert actual.by_floor == ()


@pytest.fixture
def copied(oracle: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "oracle"
    shutil.copytree(oracle(ORACLE), folder)
    return folder


@pytest.mark.parametrize(
    ("file", "name", "change", "failing"),
    [
        ("outputs", "caption_loss_weighted", lambda t: t * 1.0001, {"caption_loss_weighted"}),
        ("outputs", "greedy_ids", lambda t: t + (t == 54), {"greedy_ids"}),
        ("grads", "logit_scale", lambda t: t * 1.001, {"logit_scale"}),
        ("outputs", "something_else", lambda _: torch.ones(2), {"something_else"}),
        ("inputs", "masked_ids", lambda _: torch.ones(2), {"masked_ids"}),
    ],
)
def test_a_folder_that_holds_other_numbers_or_more_of_them_fails(
    copied: Path, file: str, name: str, change: Callable[[Any], Tensor], failing: set[str]
) -> None:
    path = copied / f"{file}.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors.get(name))
    save_file(tensors, path)
    assert {row.name for row in verify(copied, "open_clip_coca").failures} == failing


def test_a_missing_tensor_is_named(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["text.cls_emb"]
    save_file(tensors, copied / "model.safetensors")
    with pytest.raises(UserError, match="does not fit: 1 missing"):
        verify(copied, "open_clip_coca")


def test_a_format_and_a_folder_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format is called 'open_clip'") as caught:
        verify(tmp_path, "open_clip")
    assert caught.value.problems[0].hints == ("did you mean 'open_clip_coca'?",)
    with pytest.raises(UserError, match="no file"):
        verify(tmp_path, "open_clip_coca")
    with pytest.raises(UserError, match="no folder"):
        verify(tmp_path / "none", "open_clip_coca")


# --- live, on fresh weights -------------------------------------------------------------------------------------

SIZES: dict[str, dict[str, Any]] = {
    "other sizes": {
        "embed_dim": 40,
        "vision_cfg": {
            "image_size": 30, "layers": 2, "width": 24, "head_width": 8, "patch_size": 10, "mlp_ratio": 2.5,
            "attentional_pool": True, "attn_pooler_heads": 5, "attn_pooler_queries": 9, "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 13, "vocab_size": 90, "width": 40, "heads": 5, "layers": 2, "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {"context_length": 13, "vocab_size": 90, "width": 40, "heads": 4, "layers": 3},
    },
    "one width, no norm of the patches, quick GELU": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "no_ln_pre": True,
            "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4, "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 7, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1, "embed_cls": True,
            "output_tokens": True, "mlp_ratio": 2.0,
        },
        "multimodal_cfg": {"context_length": 7, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1, "mlp_ratio": 3},
    },
}  # fmt: skip


@dataclass
class Pair:
    """open_clip's model with random weights, ours with the same, and one batch for both."""

    library: Any
    blueprint: CheckedBlueprint
    ours: Model
    image: Tensor
    ids: Tensor

    def batch(self, ids: Tensor | None = None) -> dict[str, Any]:
        frame = self.ids.shape[1]
        return {"image": Image(self.image), "caption": text_of(self.ids if ids is None else ids, frame)}

    def values(self, *expected: str, batch: dict[str, Any] | None = None) -> dict[str, Any]:
        refs = {name: self.blueprint.values[name] for name in expected}
        program = compile_plan(self.blueprint, "values", refs, trainable=lambda _: False)
        return self.ours(program.run, batch or self.batch())


@pytest.fixture(params=SIZES, ids=str)
def pair(request: pytest.FixtureRequest, double: None) -> Pair:
    open_clip = pytest.importorskip("open_clip")
    config = SIZES[request.param]
    library = open_clip.coca_model.CoCa(**config)
    for parameter in library.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # one of open_clip's own begins as uninitialised memory
    library.logit_scale.data.fill_(2.0)
    words, frame = config["text_cfg"]["vocab_size"], config["text_cfg"]["context_length"]
    tokenizer = f"components.clip={{use: ids, vocab_size: {words}, begin: '{words - 2}', end: '{words - 1}'}}"
    blueprint = checked(names.BLUEPRINT, [*names.overrides(config), tokenizer])
    ours = build(blueprint)
    load_weights(ours, names.import_state(library.state_dict()))
    ids = torch.randint(1, words, (4, frame))
    for row, length in enumerate((frame, frame - 1, frame // 2, 2)):  # full, one place of padding, half, two words
        ids[row, length:] = 0
    ids[0, 2] = ids[2, 1] = 0  # "!", whose id is the padding's
    return Pair(library, blueprint, ours, torch.randn(4, 3, *library.visual.image_size), ids)


def test_features_and_logits_are_equal(pair: Pair) -> None:
    with torch.no_grad():
        expected = pair.library(pair.image, pair.ids)
        actual = pair.values("image_embedding", "text_embedding", "logits")
    assert_near(actual["image_embedding"].features, expected["image_features"])
    assert_near(actual["text_embedding"].features, expected["text_features"])
    assert_near(actual["logits"].scores[:, :-1], expected["logits"])


def test_losses_and_all_gradients_are_equal(pair: Pair) -> None:
    from open_clip.loss import CoCaLoss

    out = pair.library(pair.image, pair.ids)
    contrastive, captioning = CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)(**out)
    (contrastive + captioning).backward()
    actual = pair.ours(compile_stage(pair.blueprint, "pretrain").run, pair.batch())
    total = actual["contrastive"].value + 2 * actual["captioning"].value
    total.backward()
    assert_near(actual["contrastive"].value, contrastive)
    assert_near(2 * actual["captioning"].value, captioning)
    gradients = names.export_state(gradients_of(pair.ours))
    for name, parameter in pair.library.named_parameters():
        assert_near(gradients[name], parameter.grad, floor=1e-12, what=name)


def test_texts_trimmed_to_the_longest_and_one_place_of_padding_give_the_same(pair: Pair) -> None:
    ids = pair.ids[2:]
    trimmed = ids[:, : int((ids != 0).sum(1).max()) + 2]  # a "!" within, and the spare place
    assert trimmed.shape[1] < ids.shape[1]
    with torch.no_grad():
        expected = pair.library.encode_text(ids)
        batch = {"caption": Text(trimmed, text_of(ids, 0).lengths, ids.shape[1])}
        actual = pair.values("text_embedding", batch=batch)
    assert_near(actual["text_embedding"].features, expected)


def test_what_is_exported_loads_strictly_and_gives_the_same_features(pair: Pair) -> None:
    import open_clip

    for parameter in pair.ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    fresh = open_clip.coca_model.CoCa(**SIZES[next(n for n, c in SIZES.items() if c["embed_dim"] == width(pair))])
    fresh.load_state_dict(names.export_state(weights_of(pair.ours)), strict=True)
    with torch.no_grad():
        actual = pair.values("image_embedding", "text_embedding")
        assert_near(actual["image_embedding"].features, fresh.encode_image(pair.image))
        assert_near(actual["text_embedding"].features, fresh.encode_text(pair.ids))


def width(pair: Pair) -> int:
    return int(pair.library.visual.output_dim)


def test_a_blueprint_starts_from_open_clips_file(pair: Pair, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in pair.library.state_dict().items()}}, tmp_path / "epoch_1.pt"
    )
    fresh, notes = build(pair.blueprint), list[str]()
    item = Start.model_validate({"from": str(tmp_path / "epoch_1.pt"), "as": "open_clip_coca"})
    initialiser(dataclasses.replace(pair.blueprint, start=(item,)), notes.append)(fresh)
    ours = weights_of(fresh)
    assert all(torch.equal(ours[name], tensor) for name, tensor in weights_of(pair.ours).items())
    assert len(notes) == 1


def test_there_and_back_leaves_every_tensor_as_it_was(pair: Pair) -> None:
    state = pair.library.state_dict()
    back = names.export_state(names.import_state(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


# --- open_clip's configurations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["ViT-B-32", "ViT-L-14"])
def test_the_blueprint_has_the_settings_and_shapes_of_open_clips_own_configuration(size: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config(f"coca_{size}")
    blueprint = f"coca_openclip_{size.lower().replace('-', '_')}"
    own, derived = checked(blueprint, []), checked(names.BLUEPRINT, names.overrides(config))
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is initialised on the meta device
        config.pop("custom_text")
        state = open_clip.coca_model.CoCa(**config).state_dict()
    shapes = {name: tensor.shape for name, tensor in names.import_state(state).items()}
    for variant in (own, derived):
        assert {name: tensor.shape for name, tensor in weights_of(build(variant, "meta")).items()} == shapes
    heads = {name: part.config.heads for name, part in own.components.items() if hasattr(part.config, "heads")}
    assert heads == {n: p.config.heads for n, p in derived.components.items() if hasattr(p.config, "heads")}
    assert own.inputs["caption"].max_length == derived.inputs["caption"].max_length == 76  # type: ignore[union-attr]


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    config = json.loads(json.dumps(SIZES["other sizes"]))
    (config[section] if section else config)[key] = value
    return config


@pytest.mark.parametrize(
    ("section", "key", "value", "phrase"),
    [
        ("vision_cfg", "timm_model_name", "resnet50", "`vision_cfg.timm_model_name` is nothing that this layout has"),
        ("text_cfg", "hf_model_name", "roberta-base", "`text_cfg.hf_model_name` is nothing that this layout has"),
        ("vision_cfg", "attentional_pool", "cascade", "`vision_cfg.attentional_pool` has to be true"),
        ("text_cfg", "embed_cls", False, "`text_cfg.embed_cls` has to be true"),
        ("multimodal_cfg", "width", 24, "`multimodal_cfg.width` and `text_cfg.width` have to be equal"),
        ("", "embed_dim", 24, "`multimodal_cfg.width` and `embed_dim` have to be equal"),
        ("", "vision_cfg", None, "`vision_cfg` is missing"),
    ],
)
def test_a_configuration_of_another_layout_is_refused(section: str, key: str, value: Any, phrase: str) -> None:
    with pytest.raises(UserError, match="no CoCa") as caught:
        names.overrides(changed(section, key, value))
    assert any(phrase in hint for hint in caught.value.problems[0].hints)


def test_open_clips_mended_mask_is_the_correct_one() -> None:
    assert "components.unimodal.cls_mask=correct" in names.overrides(changed("text_cfg", "correct_cls_mask", True))


def test_the_correct_mask_is_open_clips_mended_one(pair: Pair) -> None:
    pair.library.text.correct_cls_mask = True
    pair.ours.student.unimodal.config = pair.ours.student.unimodal.config.model_copy(update={"cls_mask": "correct"})
    ids = pair.ids.clone()
    ids[0, 2] = ids[2, 1] = 1  # where no word has the padding's id
    with torch.no_grad():
        expected = pair.library.encode_text(ids)
        actual = pair.values("text_embedding", batch=pair.batch(ids))
    assert_near(actual["text_embedding"].features, expected)


# --- open_clip's end of a text ----------------------------------------------------------------------------------


def test_padding_ends_a_text_and_the_last_place_is_an_end() -> None:
    ids = torch.tensor([[8, 3, 0, 4, 5], [8, 3, 4, 5, 6], [8, 3, 9, 0, 0], [8, 3, 4, 9, 0], [8, 1, 2, 3, 0]])
    assert ended(ids, 5, end=9, pad=0).tolist() == [
        [8, 3, 0, 0, 0],
        [8, 3, 4, 5, 9],
        [8, 3, 9, 0, 0],
        [8, 3, 4, 9, 0],
        [8, 1, 2, 3, 9],
    ]


def test_texts_that_all_ended_early_are_padded_to_the_length() -> None:
    assert ended(torch.tensor([[8, 3, 9]]), 5, end=9, pad=0).tolist() == [[8, 3, 9, 0, 0]]

"""A blueprint's `start` fills the model that is trained from it; foreign towers take part like ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.start import initialiser
from compose_vlp.runtime.training.listener import Silent
from compose_vlp.values import Image, Text

SMALL = "{embed_dim: 32, depth: 1, num_heads: 4}"
TIMM = f"components.vision={{use: timm, model: vit_tiny_patch16_224, options: {SMALL}}}"
GPT2 = [
    "text_embedding=normalize(text_proj(mean(words)))",
    "joint=multimodal(words, context=visual)",
]


def begun(*overrides: str) -> tuple[CheckedBlueprint, Model, list[str]]:
    checked = Blueprint.load("tiny/coca", overrides=overrides).check()
    model, notes = build(checked, seed=0), list[str]()
    initialiser(checked, notes.append)(model)
    return checked, model, notes


def one_step(checked: CheckedBlueprint, model: Model) -> dict[str, Any]:
    made = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 500, (4, 12), generator=made)
    batch = {"image": Image(torch.randn(4, 3, 64, 64, generator=made)), "caption": Text(ids, torch.full((4,), 12), 28)}
    step = Step(params=checked.constants_and_starts())
    return model(compile_stage(checked, "pretrain").run, batch, step)


def test_a_timm_tower_of_a_paper_starts_from_timms_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    library = timm.create_model("vit_tiny_patch16_224", num_classes=3, embed_dim=32, depth=1, num_heads=4).eval()
    save_file(library.state_dict(), tmp_path / "vit.safetensors")
    start = f'start=[{{from: "{tmp_path / "vit.safetensors"}", to: vision}}, {{new: ["**"]}}]'
    checked, model, notes = begun(TIMM, start)
    assert torch.equal(model.student.vision.model.blocks[0].attn.qkv.weight, library.blocks[0].attn.qkv.weight)
    assert notes[0].startswith("18 weights of vision from ")
    assert "vision.model.pos_embed: [1, 197, 32] made [1, 17, 32] by timm" in notes
    assert any(line.endswith("vit.safetensors: head.bias, head.weight") for line in notes)
    assert any("weights start anew: " in line for line in notes)
    losses = one_step(checked, model)
    sum(losses[name].value for name in ("contrastive", "captioning")).backward()
    assert all(p.grad is not None for p in model.student.vision.parameters())


def test_a_transformers_tower_of_a_paper_starts_from_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    library = transformers.GPT2Model(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=500))
    library.save_pretrained(tmp_path)
    tower = f'components.unimodal={{use: transformers, model: "{tmp_path}"}}'
    start = f'start=[{{from: "{tmp_path}", to: unimodal}}, {{new: ["**"]}}]'
    checked, model, notes = begun(tower, *GPT2, start)
    assert torch.equal(model.student.unimodal.embedding.weight[:500], library.wte.weight)
    assert any("12 tokens more than in" in line for line in notes)
    assert one_step(checked, model)["captioning"].value.isfinite()


class Notes(Silent):
    """Keeps what training says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.training
def test_training_begins_from_what_start_brings_and_tells_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    library = timm.create_model("vit_tiny_patch16_224", num_classes=3, embed_dim=32, depth=1, num_heads=4)
    save_file(library.state_dict(), tmp_path / "vit.safetensors")
    start = f'start=[{{from: "{tmp_path / "vit.safetensors"}", to: vision}}, {{new: ["**"]}}]'
    short = ("stages.pretrain.length=1 steps", "stages.pretrain.batch=8", "lr=0.0", "stages.pretrain.freeze=[vision]")
    notes = Notes()
    blueprint = Blueprint.load("tiny/coca", overrides=(TIMM, start, *short))
    blueprint.train(out=tmp_path / "run", track=False, listener=notes)
    (saved,) = (tmp_path / "run" / "checkpoints").glob("*/model.safetensors")
    kept = load_file(saved)["components.vision.model.blocks.0.attn.qkv.weight"]
    assert torch.equal(kept, library.blocks[0].attn.qkv.weight)
    assert any(note.startswith("18 weights of vision from ") for note in notes.notes)


def test_a_blueprint_without_start_begins_anew_and_says_nothing() -> None:
    assert begun()[2] == []


def test_what_start_forgets_is_an_error(tmp_path: Path) -> None:
    library = timm.create_model("vit_tiny_patch16_224", num_classes=0, embed_dim=32, depth=1, num_heads=4)
    save_file(library.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match="no file has a weight for pool_many"):
        begun(TIMM, f'start=[{{from: "{tmp_path / "vit.safetensors"}", to: vision}}]')


def test_a_bidirectional_transformers_tower_under_next_token_is_a_leak() -> None:
    options = "{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 4}"
    blueprint = Blueprint.load(
        "tiny/coca",
        overrides=[
            f"components.unimodal={{use: transformers, model: bert, options: {options}}}",
            "joint=multimodal(words, context=visual)",
        ],
    )
    with pytest.raises(BlueprintError, match="every position of `caption` reaches the logits"):
        blueprint.check()


def test_a_timm_tower_without_a_cls_has_none() -> None:
    pooled = "image_embedding=normalize(image_proj(vision(image).cls))"
    blueprint = Blueprint.load("tiny/coca", overrides=["components.vision={use: timm, model: resnet18}", pooled])
    with pytest.raises(BlueprintError, match="has no CLS"):
        blueprint.check()


def test_an_unknown_timm_model_is_pointed_at_with_the_nearest() -> None:
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("tiny/coca", overrides=["components.vision={use: timm, model: resnet81}"]).check()
    (problem,) = caught.value.problems
    assert "timm has no `model` 'resnet81'" in problem.message
    assert "'resnet18'" in problem.hints[0]


def test_a_run_gives_the_weights_of_its_last_checkpoint(tmp_path: Path) -> None:
    small = ("inputs.image.size=16", "data.pairs.count=8", "stages.pretrain.batch=4", "stages.pretrain.length=2 steps")
    blueprint = Blueprint.load("tiny/coca", overrides=small)
    blueprint.train(out=tmp_path / "first", track=False, listener=Silent())
    last = load_file(tmp_path / "first" / "checkpoints" / "step-00000002" / "model.safetensors")
    _, model, notes = begun(*small, f'start=[{{from: "{tmp_path / "first"}"}}]')
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items() if name in last)
    assert "first" in notes[0]


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        begun(f'start=[{{from: "{tmp_path}"}}]')


@pytest.mark.training
@pytest.mark.parametrize(("to", "kept"), [(", to: [vision, unimodal]", True), (", to: vision", False)])
def test_word_tables_bring_their_vocabulary_along(tmp_path: Path, to: str, kept: bool) -> None:
    small = ("inputs.image.size=16", "data.pairs.count=8", "stages.pretrain.batch=4", "stages.pretrain.length=1 steps")
    Blueprint.load("tiny/coca", overrides=small).train(out=tmp_path / "first", track=False)
    start = f'start=[{{from: "{tmp_path / "first"}"{to}}}, {{new: ["**"]}}]'
    other = Blueprint.load("tiny/coca", overrides=[*small, "inputs.caption.from=question", start])
    notes = Notes()
    other.train(out=tmp_path / "second", track=False, listener=notes)
    (first, second) = (next((tmp_path / run / "tokenizers").glob("*/tokenizer.json")) for run in ("first", "second"))
    assert (first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")) is kept
    assert any(note.startswith("the words of `bpe` are those of ") for note in notes.notes) is kept

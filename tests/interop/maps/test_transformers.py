"""Checkpoints of transformers give its numbers in the component `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compose_vlp.blueprint.sections import Start
from compose_vlp.components.encoders.transformers_text import TransformersText
from compose_vlp.errors import UserError
from compose_vlp.interop.start import Component, Started, start
from compose_vlp.values import Text
from tests.support import assert_near

pytestmark = pytest.mark.usefixtures("double")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
BERT = transformers.BertConfig(**SMALL, intermediate_size=48)
GPT2 = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16)
T5 = transformers.T5Config(d_model=32, num_layers=2, num_heads=4, d_ff=48, d_kv=8, vocab_size=50)
MODELS: dict[str, tuple[Any, Any, str]] = {  # model with a head, its configuration, its tower
    "bert": (transformers.BertForMaskedLM, BERT, "bert"),
    "gpt2": (transformers.GPT2LMHeadModel, GPT2, "transformer"),
    "t5": (transformers.T5ForConditionalGeneration, T5, "encoder"),
}


def folder(name: str, tmp_path: Path, headless: bool = False) -> tuple[Any, Path]:
    torch.manual_seed(0)
    kind, config, tower = MODELS[name]
    model = kind(config).eval()
    (getattr(model, tower) if headless else model).save_pretrained(tmp_path)
    return getattr(model, tower), tmp_path


def tower(place: Path, vocab_size: int = 50) -> TransformersText:
    config = TransformersText.Config(model=str(place), vocab_size=vocab_size, length=7)
    return TransformersText(config).eval().double()


def bring(module: TransformersText, file: Path) -> Started:
    items = [Start.model_validate({"from": str(file), "to": ("text",)})]
    return start({"text": Component(module, "transformers", "embedding.weight")}, items)


def words() -> Text:
    ids = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    return Text(ids, torch.tensor([7, 7]), 7)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("headless", [False, True])
def test_a_folder_fills_the_tower_that_it_describes(tmp_path: Path, name: str, headless: bool) -> None:
    if name == "t5" and headless:
        pytest.skip("T5's encoder alone has no configuration of its own")
    model, place = folder(name, tmp_path, headless)
    text = tower(place)
    notes = bring(text, place)
    assert_near(text(words()).features, model(input_ids=words().ids).last_hidden_state)
    left = notes.unused[str(place)]
    assert all(name.startswith(("cls.", "decoder.", "lm_head", "pooler")) for name in left)


def test_added_tokens_start_anew(tmp_path: Path) -> None:
    model, place = folder("bert", tmp_path)
    text = tower(place, vocab_size=53)
    notes = bring(text, place)
    assert_near(text(words()).features, model(input_ids=words().ids).last_hidden_state)
    assert any("3 tokens more" in line for line in notes.lines())


def test_the_names_of_the_first_bert_checkpoints_are_known(tmp_path: Path) -> None:
    model, place = folder("bert", tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(place / "model.safetensors").items()
    }
    save_file(old, place / "model.safetensors")
    text = tower(place)
    bring(text, place)
    assert_near(text(words()).features, model(input_ids=words().ids).last_hidden_state)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "bert").mkdir()
    folder("gpt2", tmp_path / "gpt2")
    folder("bert", tmp_path / "bert")
    with pytest.raises(UserError, match="are of no format that is known for a 'transformers'"):
        bring(tower(tmp_path / "bert"), tmp_path / "gpt2")


def test_a_layer_that_the_file_lacks_is_told(tmp_path: Path) -> None:
    _, place = folder("bert", tmp_path)
    kept = {n: t for n, t in load_file(place / "model.safetensors").items() if "layer.1.output" not in n}
    save_file(kept, place / "model.safetensors")
    with pytest.raises(UserError, match=r"no file has a weight for text\.model\.encoder\.layer\.1\.output"):
        bring(tower(place), place)

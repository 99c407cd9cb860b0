"""Any text model of transformers is a tower: the library's own numbers, and flow, cache and CLS found out by trying."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compose_vlp import registry
from compose_vlp.components.attention import attend
from compose_vlp.components.encoders.transformers_model import make, read_config, sized
from compose_vlp.components.encoders.transformers_text import TransformersText
from compose_vlp.errors import UserError
from compose_vlp.graph.types import Flow, RowSpace, SequenceType, TextType
from compose_vlp.values import Text
from compose_vlp.values.cache import Cache
from tests.support import assert_near

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 48}
MODELS: dict[str, tuple[dict[str, Any], bool, str, bool, bool]] = {  # options, causal, cls, ours, cached
    "bert": ({**SMALL, "intermediate_size": 48}, False, "first", True, False),
    "roberta": ({**SMALL, "intermediate_size": 48}, False, "first", True, False),
    "distilbert": ({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}, False, "first", True, False),
    "electra": ({**SMALL, "embedding_size": 16, "intermediate_size": 48}, False, "first", True, False),
    "modernbert": ({**SMALL, "intermediate_size": 48}, False, "first", True, False),
    "t5": ({"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 48, "d_kv": 8}, False, "none", False, False),
    "xlnet": ({"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "d_head": 8}, False, "none", False, False),
    "gpt2": (SMALL, True, "none", True, True),
    "opt": ({**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16}, True, "none", True, True),
    "llama": (GROUPED, True, "none", True, True),
    "mistral": ({**GROUPED, "sliding_window": 3}, True, "none", True, True),
    "gemma2": ({**GROUPED, "head_dim": 8, "sliding_window": 3}, True, "none", False, True),
    "xlm-roberta": ({**SMALL, "intermediate_size": 48, "is_decoder": True}, True, "none", True, True),
    "bloom": (SMALL, True, "none", False, True),
    "lfm2": (  # the first layers are no attention
        {**GROUPED, "num_hidden_layers": 3, "layer_types": ["conv", "conv", "full_attention"]},
        True, "none", True, False,
    ),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2}, True, "none", False, False),
}  # fmt: skip
QUIET = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}


def config_of(name: str, length: int = 7) -> TransformersText.Config:
    return TransformersText.Config(model=name, options=MODELS[name][0], vocab_size=50, length=length)


def tower(name: str) -> TransformersText:
    torch.manual_seed(0)
    return TransformersText(config_of(name)).eval()


def words(lengths: tuple[int, ...] = (7, 4), pad: int = 0) -> Text:
    ids = torch.randint(3, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
    ends = torch.tensor(lengths)
    ids = ids.masked_fill(torch.arange(max(lengths)) >= ends[:, None], pad)
    return Text(ids, ends, frame=7, pad=pad)


def the_librarys_own(ours: TransformersText, text: Text) -> torch.Tensor:
    """The same weights in transformers' own class with its plainest attention, as a user of transformers runs it."""
    config = sized(read_config(ours.config.model, json.dumps(ours.config.options)), 50)
    model = make(config, "eager").eval()
    model.load_state_dict(ours.model.state_dict())
    padding = config.pad_token_id if config.pad_token_id is not None else text.pad
    ids = text.ids.masked_fill(~text.valid, padding)
    return model(input_ids=ids, attention_mask=text.valid.long()).last_hidden_state


@pytest.mark.parametrize("name", MODELS)
def test_a_tower_gives_the_librarys_numbers(name: str) -> None:
    text = words()
    features = tower(name)(text).features
    assert_near(features[text.valid], the_librarys_own(tower(name), text)[text.valid], 1e-5)


@pytest.mark.parametrize("name", [name for name, facts in MODELS.items() if facts[3]])
def test_attention_goes_through_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = attend.BACKENDS["sdpa"]

    def counted(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(options)
        return real(*tensors, **options)

    model = tower(name)
    monkeypatch.setitem(attend.BACKENDS, "sdpa", counted)
    model(words())
    assert len(calls) == (1 if name == "lfm2" else 2)
    if name in ("bert", "gpt2"):  # and in the form that has fast paths: no mask of all positions by all positions
        assert all(options["bias"] is None for options in calls)
        assert all((options["valid"] is None) == options["causal"] == (name == "gpt2") for options in calls)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "opt"])
def test_gradients_are_the_librarys_and_no_weight_is_unused(name: str) -> None:
    ours, text = tower(name), words((7, 7))
    ours(text).features.square().mean().backward()
    got = {n: p.grad.clone() for n, p in ours.named_parameters() if p.grad is not None}
    assert got.keys() == dict(ours.named_parameters()).keys()
    ours.zero_grad()
    ours.model.set_attn_implementation("eager")
    ours.model(input_ids=text.ids, attention_mask=text.valid).last_hidden_state.square().mean().backward()
    for parameter, gradient in ((n, p.grad) for n, p in ours.named_parameters()):
        # the library's own softmax is of float32, and gradients that are 0 (biases of keys) are its rounding
        assert_near(got[parameter], gradient, 1e-4, floor=1e-7, what=parameter)


@pytest.mark.parametrize("name", MODELS)
def test_flow_cls_and_width_are_known_before_a_weight_exists(name: str) -> None:
    causal, cls = MODELS[name][1:3]
    config = config_of(name)
    caption = TextType(RowSpace("main"), {"caption": Flow.EACH}, length=7, vocab_size=50, root="caption")
    typed = registry.get(TransformersText.kind_name).output(config, {"text": caption})
    assert isinstance(typed, SequenceType)
    flow = Flow.PAST if causal else Flow.ALL
    width = tower(name)(words()).features.shape[2]
    assert TransformersText.flows(config) == {"text": flow}
    assert (typed.width, typed.parts[0].cls, typed.parts[0].length) == (width, cls, 7)
    assert typed.parts[0].reads == {"caption": flow}
    assert typed.parts[0].text == caption
    known = TransformersText.describe(config)
    assert (known["causal"], known["attention"] == "ours", known["cache"]) == (causal, *MODELS[name][3:])


@pytest.mark.parametrize("name", MODELS)
def test_what_it_says_of_later_words_is_so(name: str) -> None:
    model, text = tower(name), words((7, 7))
    ids = text.ids.clone()
    ids[:, -1] = ids[:, -1] % 40 + 5
    before, after = model(text).features[:, :-1], model(Text(ids, text.lengths, 7)).features[:, :-1]
    assert torch.allclose(before, after, atol=1e-6) is MODELS[name][1]


@pytest.mark.parametrize("name", [name for name, facts in MODELS.items() if facts[4]])
def test_word_by_word_from_kept_keys_equals_the_whole(name: str) -> None:
    model, ids, cache = tower(name), words((7, 7)).ids, Cache()
    whole = model(words((7, 7))).features
    steps = [ids[:, :3], ids[:, 3:4], ids[:, 4:]]
    parts = [model(Text(step, torch.full((2,), step.shape[1]), 7), cache=cache).features for step in steps]
    assert_near(torch.cat(parts, 1), whole, 1e-5)
    assert cache.length == 7


def test_beams_reorder_the_kept_keys() -> None:
    model, ids, cache = tower("llama"), words((7, 7)).ids, Cache()
    model(Text(ids[:, :5], torch.tensor([5, 5]), 7), cache=cache)
    cache.reorder(torch.tensor([1, 1]))
    step = model(Text(ids[:, 5:6], torch.tensor([1, 1]), 7), cache=cache).features
    swapped = torch.cat((ids[[1, 1], :5], ids[:, 5:6]), 1)
    whole = model(Text(swapped, torch.tensor([6, 6]), 7)).features
    assert_near(step, whole[:, 5:], 1e-5)


@pytest.mark.parametrize("name", ["bert", "mamba"])
def test_a_model_that_cannot_go_on_says_so(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} cannot go on word by word"):
        tower(name)(words(), cache=Cache())


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_the_tokenizers_padding_may_have_any_id(name: str, pad: int) -> None:
    model = tower(name)
    assert_near(model(words(pad=pad)).features[1, :4], model(words(pad=0)).features[1, :4], 1e-5)


def test_every_row_of_the_token_table_learns() -> None:
    model = tower("roberta")
    ids = torch.ones(1, 4, dtype=torch.long)  # the id that RoBERTa itself pads with
    model(Text(ids, torch.tensor([4]), 7)).features.square().sum().backward()
    assert model.embedding.weight.grad[1].abs().sum() > 0


def test_the_token_table_can_be_shared_by_name() -> None:
    model = tower("bert")
    assert TransformersText.parts["embedding"] == "embedding.weight"
    assert model.embedding.weight is model.model.embeddings.word_embeddings.weight
    assert model.embedding.weight.shape == (50, 32)


def test_trying_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    TransformersText.describe(TransformersText.Config(model="gpt2", options={"n_embd": 44, "n_head": 2}))
    assert torch.equal(torch.rand(1), expected)


def test_it_is_made_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = tower("gpt2")
        features = model(Text(torch.zeros(2, 7, dtype=torch.long), torch.tensor([7, 7]), 7)).features
    assert features.device.type == "meta"
    assert features.shape == (2, 7, 32)


def test_a_folder_gives_the_architecture(tmp_path: Path) -> None:
    read_config("bert", json.dumps({**MODELS["bert"][0], **QUIET})).save_pretrained(tmp_path)
    config = TransformersText.Config(model=str(tmp_path), options={"hidden_act": "relu"}, vocab_size=50, length=7)
    model = TransformersText(config)
    assert model.model.config.hidden_size == 32
    assert model.model.config.hidden_act == "relu"
    assert model.model.config.vocab_size == 50


def test_a_folder_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (clash,) = TransformersText.check(TransformersText.Config(model=str(tmp_path)))
    assert "not one of transformers' own" in clash.message
    assert not (tmp_path / "ran").exists()


LOADS: list[dict[str, Any]] = [
    {"auto_map": {"AutoModel": "mine.Model"}},
    {"trust_remote_code": True},
    {"attn_implementation": "somebody/kernels"},
    {"_attn_implementation": "somebody/kernels"},
    {"quantization_config": {"quant_method": "bitsandbytes"}},
    {"use_pretrained_backbone": True, "backbone": "resnet50"},
    {"text_config": {"auto_map": {"AutoModel": "mine.Model"}}},
]


@pytest.mark.parametrize("options", LOADS, ids=range(len(LOADS)))
def test_options_that_load_weights_or_code_are_refused(options: dict[str, Any]) -> None:
    (clash,) = TransformersText.check(TransformersText.Config(model="bert", options=options))
    assert "lets transformers load weights or code" in clash.message
    assert "start: [{from: FOLDER" in clash.hints[0]


def test_what_loads_weights_or_code_in_a_folder_s_configuration_is_not_followed(tmp_path: Path) -> None:
    read_config("bert", json.dumps({**MODELS["bert"][0], **QUIET})).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    loads = {
        "auto_map": {"AutoModel": "mine.Model", "AutoConfig": "mine.Config"},
        "attn_implementation": "some/kernels",
    }
    (tmp_path / "config.json").write_text(json.dumps({**written, **loads, "quantization_config": {"bits": 4}}))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = TransformersText.Config(model=str(tmp_path), vocab_size=50, length=7)
    model = TransformersText(config)
    assert not hasattr(model.model.config, "auto_map")
    assert not hasattr(model.model.config, "quantization_config")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"model": "robeta"}, "neither a model type of transformers nor a folder", "'roberta'"),
        ({"model": "org/model-of-the-hub"}, "neither a model type", "downloaded"),
        ({"model": "bert", "options": {"hiden_size": 3}}, "bert has no `options` 'hiden_size'", "'hidden_size'"),
        ({"model": "bart"}, "no tower of its own for texts", ""),
        ({"model": "vit"}, "no vocabulary", ""),
        ({"model": "bert", "options": {**SMALL, "hidden_size": 30}}, "cannot be run on words alone", ""),
        ({"model": "gpt2", "options": {**SMALL, "n_positions": 9}, "length": 10}, "positions for `length` 10", ""),
        ({"model": "roberta", "options": {**SMALL, "max_position_embeddings": 9}, "length": 8}, "positions for", ""),
    ],
)  # fmt: skip
def test_what_transformers_cannot_make_is_a_clash_of_settings(
    settings: dict[str, Any], message: str, hint: str
) -> None:
    config = TransformersText.Config(**settings)
    (clash,) = TransformersText.check(config)
    assert message in clash.message
    assert hint in " ".join(clash.hints)
    assert clash.settings[0] in ("model", "options")
    caption = TextType(root="caption")
    assert registry.get(TransformersText.kind_name).output(config, {"text": caption}).sizes()["width"] is None, (
        "said once, by the clash"
    )
    assert TransformersText.describe(config) == {}

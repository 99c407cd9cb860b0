"""BERT's weights give BERT's numbers in our towers, fusers and heads; ALBEF and BLIP start from DeiT and BERT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import Start
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.components.decoders.text_decoder import TextDecoder
from compose_vlp.components.encoders.bert_encoder import BertEncoder
from compose_vlp.components.fusers.cross_attention_fuser import CrossAttentionFuser
from compose_vlp.components.heads.lm_head import LMHead
from compose_vlp.components.heads.mlm_head import MLMHead
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.start import Component, Started, components_of, start
from compose_vlp.values import Image, Part, Sequence, Text
from tests.docs.pages import blocks
from tests.support import assert_near

pytestmark = pytest.mark.usefixtures("double")

WORDS, WIDTH, DEPTH, LENGTH = 50, 32, 4, 9
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 4 * WIDTH,
    "max_position_embeddings": 20,
    "layer_norm_eps": 1e-12,
}
TOWER = {"width": WIDTH, "heads": 4, "vocab_size": WORDS, "length": LENGTH}


def library_model(name: str = "BertForMaskedLM", family: str = "Bert", **more: Any) -> Any:
    """A small model of the library's with random weights, its norms and biases included."""
    config = getattr(transformers, f"{family}Config")(**{"vocab_size": WORDS, **SIZES, **more})
    return drawn(getattr(transformers, name)(config))


def drawn(model: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def saved(model: Any, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def component(module: nn.Module, kind: str) -> Component:
    return Component(module.eval(), kind, "embedding.weight" if hasattr(module, "embedding") else None)


def encoder(depth: int = DEPTH, **settings: Any) -> Component:
    return component(BertEncoder(BertEncoder.Config(**{**TOWER, "depth": depth, **settings})), "bert_encoder")


def decoder(**settings: Any) -> Component:
    return component(TextDecoder(TextDecoder.Config(**{**TOWER, "depth": DEPTH, **settings})), "text_decoder")


def fuser(depth: int = DEPTH // 2, **settings: Any) -> Component:
    config = CrossAttentionFuser.Config(width=WIDTH, context_width=24, depth=depth, heads=4, **settings)
    return component(CrossAttentionFuser(config), "cross_attention_fuser")


def mlm_head() -> Component:
    return component(MLMHead(MLMHead.Config(width=WIDTH, vocab_size=WORDS)), "mlm_head")


def lm_head(vocab_size: int = WORDS, **settings: Any) -> Component:
    config = LMHead.Config(**{"width": WIDTH, "vocab_size": vocab_size, "transform": True, "bias": True, **settings})
    return component(LMHead(config), "lm_head")


def bring(components: dict[str, Component], place: Path, *new: str, **more: Any) -> Started:
    items: list[dict[str, Any]] = [{"from": str(place), "to": tuple(components), **more}]
    items += [{"new": new}] if new else []
    return start(components, [Start.model_validate(item) for item in items])


def texts() -> Text:
    """Three texts of 9, 5 and 2 words in a frame of 9."""
    lengths = torch.tensor([LENGTH, 5, 2])
    ids = torch.randint(3, WORDS, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    return Text(ids * (torch.arange(LENGTH) < lengths[:, None]), lengths, LENGTH)


def inputs(text: Text) -> dict[str, Tensor]:
    return {"input_ids": text.ids, "attention_mask": text.valid.long()}


def standing_on(text: Text, features: Tensor) -> Sequence:
    return Sequence(features, (Part("language", 0, LENGTH, "first", text),), text.valid)


def close(ours: Tensor, expected: Tensor) -> None:
    assert_near(ours, expected)


# --- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize("form", ["transformers", None])
@torch.no_grad()
def test_our_encoder_gives_berts_numbers(tmp_path: Path, name: str, form: str | None) -> None:
    model, text = library_model(name), encoder()
    notes = bring({"text": text}, saved(model, tmp_path), **({"as": form} if form else {}))
    actual = text.module(texts()).features
    close(actual, getattr(model, "bert", model)(**inputs(texts())).last_hidden_state)
    assert notes.new == []
    assert "text.positions: the first 9 of 20" in notes.lines()
    assert all("cls." in left or "pooler" in left for left in notes.unused[str(tmp_path / "bert")])


@torch.no_grad()
def test_text_and_fuser_are_berts_halves(tmp_path: Path) -> None:
    model, halves = library_model(), {"text": encoder(DEPTH // 2), "fusion": fuser()}
    notes = bring(halves, saved(model, tmp_path), "fusion.layers.*.cross_attention")
    states = model.bert(**inputs(texts()), output_hidden_states=True).hidden_states
    words = halves["text"].module(texts())
    close(words.features, states[DEPTH // 2])
    close(halves["fusion"].module(words).features, states[-1])  # without a context it looks at none
    assert "fusion.layers: the file's from 2 to 3" in notes.lines()
    assert all("cls.predictions" in left for left in notes.unused[str(tmp_path / "bert")])


def test_a_fuser_has_the_last_layers_tensor_by_tensor(tmp_path: Path) -> None:
    model, fusion = library_model(), fuser()
    bring({"fusion": fusion}, saved(model, tmp_path), "fusion.layers.*.cross_attention")
    for mine, layer in zip(fusion.module.layers, model.bert.encoder.layer[DEPTH // 2 :], strict=True):
        attention, state = layer.attention, mine.state_dict()
        for kind in ("weight", "bias"):
            maps = [getattr(getattr(attention.self, role), kind) for role in ("query", "key", "value")]
            expected = {
                "self_attention.branch.qkv": torch.cat(maps),
                "self_attention.branch.out": getattr(attention.output.dense, kind),
                "self_attention.norm": getattr(attention.output.LayerNorm, kind),
                "ffn.branch.fc1": getattr(layer.intermediate.dense, kind),
                "ffn.branch.fc2": getattr(layer.output.dense, kind),
                "ffn.norm": getattr(layer.output.LayerNorm, kind),
            }
            assert all(torch.equal(state[f"{name}.{kind}"], tensor) for name, tensor in expected.items())


@torch.no_grad()
@pytest.mark.parametrize("head", [mlm_head, lm_head])
@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining"])
def test_heads_give_the_logits_of_berts(tmp_path: Path, head: Any, name: str) -> None:
    model, mine = library_model(name), head()
    assert bring({"head": mine}, saved(model, tmp_path)).new == []
    features = torch.randn(3, LENGTH, WIDTH)
    close(mine.module(standing_on(texts(), features)).scores, model.cls.predictions(features))


@torch.no_grad()
def test_our_decoder_and_head_give_the_logits_of_berts_decoder(tmp_path: Path) -> None:
    model, parts = library_model("BertLMHeadModel", is_decoder=True), {"decoder": decoder(), "lm_head": lm_head()}
    bring(parts, saved(model, tmp_path))
    actual = parts["lm_head"].module(parts["decoder"].module(texts())).scores
    close(actual, model(**inputs(texts())).logits)


@torch.no_grad()
def test_cross_attention_is_taken_where_the_file_has_it(tmp_path: Path) -> None:
    model = library_model("BertLMHeadModel", is_decoder=True, add_cross_attention=True)
    parts = {"decoder": decoder(context_width=WIDTH), "lm_head": lm_head()}
    assert bring(parts, saved(model, tmp_path)).new == []
    context = torch.randn(3, 5, WIDTH)
    actual = parts["lm_head"].module(parts["decoder"].module(texts(), Sequence(context, ()))).scores
    close(actual, model(**inputs(texts()), encoder_hidden_states=context).logits)


# --- files ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_file_of_2018_is_read(tmp_path: Path) -> None:
    model, parts = library_model("BertForPreTraining"), {"text": encoder(), "mlm_head": mlm_head()}
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save({**old, "bert.embeddings.position_ids": torch.arange(20)[None]}, tmp_path / "pytorch_model.bin")
    notes = bring(parts, tmp_path / "pytorch_model.bin")
    words = parts["text"].module(texts())
    close(words.features, model.bert(**inputs(texts())).last_hidden_state)
    close(parts["mlm_head"].module(words).scores, model(**inputs(texts())).prediction_logits)
    left = notes.unused[str(tmp_path / "pytorch_model.bin")]
    assert not any("LayerNorm" in name for name in left)


def test_a_shallower_tower_takes_the_first_layers(tmp_path: Path) -> None:
    model = library_model()
    for name, part in {"encoder": encoder(1), "decoder": decoder(depth=1)}.items():
        notes = bring({name: part}, saved(model, tmp_path))
        first = model.bert.encoder.layer[0].output.dense.weight
        assert torch.equal(part.module.layers[0].ffn.branch.fc2.weight, first)
        assert any("encoder.layer.1." in left for left in notes.unused[str(tmp_path / "bert")])


def test_layers_that_stand_once_for_each_context_take_the_same_weights(tmp_path: Path) -> None:
    model, fusion = library_model(), fuser(contexts=2)
    bring({"fusion": fusion}, saved(model, tmp_path), "fusion.layers.*.cross_attention")
    for i, layer in enumerate(fusion.module.layers):
        expected = model.bert.encoder.layer[DEPTH // 2 + i // 2].output.dense.weight
        assert torch.equal(layer.ffn.branch.fc2.weight, expected)


def test_added_tokens_start_anew_in_table_head_and_bias(tmp_path: Path) -> None:
    parts = {"decoder": decoder(vocab_size=WORDS + 2), "lm_head": lm_head(WORDS + 2)}
    fresh = {name: part.module.state_dict() for name, part in parts.items()}
    fresh = {name: {path: t.clone() for path, t in state.items()} for name, state in fresh.items()}
    model = library_model()
    notes = bring(parts, saved(model, tmp_path))
    table = model.bert.embeddings.word_embeddings.weight
    for name, path, given in (
        ("decoder", "embedding.weight", table),
        ("lm_head", "weight", table),
        ("lm_head", "bias", model.cls.predictions.bias),
    ):
        actual = parts[name].module.state_dict()[path]
        assert torch.equal(actual[:WORDS], given)
        assert torch.equal(actual[WORDS:], fresh[name][path][WORDS:])
        assert any(line.startswith(f"{name}.{path}: 2 tokens more than in ") for line in notes.lines())


def test_token_types_that_the_component_has_not_are_told(tmp_path: Path) -> None:
    notes = bring({"text": encoder(token_types=False)}, saved(library_model(), tmp_path))
    assert "text.token_types: the file's are left out" in notes.lines()
    assert "bert.embeddings.token_type_embeddings.weight" in notes.unused[str(tmp_path / "bert")]


# --- what the file has not, and what is not BERT ------------------------------------------------------------------


def hints_of(caught: pytest.ExceptionInfo[UserError]) -> str:
    return "\n".join(caught.value.problems[0].hints)


def test_cross_attention_that_the_file_lacks_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file has a weight for fusion\.layers\.0\.cross_attention"):
        bring({"fusion": fuser()}, saved(library_model(), tmp_path))


def test_layers_that_the_file_lacks_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file has a weight for text\.layers\.4\.self_attention"):
        bring({"text": encoder(DEPTH + 1)}, saved(library_model(), tmp_path))


def test_positions_for_longer_texts_than_the_files_are_another_shape(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other shape") as caught:
        bring({"text": encoder(length=30)}, saved(library_model(), tmp_path))
    assert "text.positions is [30, 32] here and [20, 32] in" in hints_of(caught)


def test_a_head_without_berts_transform_or_biases_is_refused(tmp_path: Path) -> None:
    for lacking in ({"transform": False}, {"bias": False}):
        with pytest.raises(UserError, match="which this component has not") as caught:
            bring({"lm_head": lm_head(**lacking)}, saved(library_model(), tmp_path))
        assert "`transform: true, bias: true`" in hints_of(caught)


@pytest.mark.parametrize(("name", "family"), [("RobertaForMaskedLM", "Roberta"), ("DistilBertModel", "DistilBert")])
@pytest.mark.parametrize("part", [encoder, mlm_head])
def test_other_models_names_are_refused_with_the_formats_that_there_are(
    tmp_path: Path, name: str, family: str, part: Any
) -> None:
    sizes = {} if family == "Roberta" else {"dim": WIDTH, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}
    tower = part()
    with pytest.raises(UserError, match=f"are of no format that is known for a '{tower.kind}'") as caught:
        bring({"part": tower}, saved(library_model(name, family, **sizes), tmp_path))
    assert "formats for it: transformers, ours" in hints_of(caught)


@pytest.mark.parametrize("part", [encoder, fuser])
def test_roberta_under_berts_names_is_refused(tmp_path: Path, part: Any) -> None:
    model = library_model("RobertaModel", "Roberta", type_vocab_size=1)
    with pytest.raises(UserError, match="but 1 and not BERT's two") as caught:
        bring({"part": part()}, saved(model, tmp_path), "part")
    assert "RoBERTa" in hints_of(caught)


@pytest.mark.parametrize(
    "more", ["encoder.layer.0.attention.self.distance_embedding.weight", "embeddings.task_type_embeddings.weight"]
)
def test_what_bert_does_not_compute_is_refused(tmp_path: Path, more: str) -> None:
    save_file(
        {**library_model("BertModel").state_dict(), more: torch.ones(2, WIDTH)}, tmp_path / "relative.safetensors"
    )
    with pytest.raises(UserError, match=f"the file's model has `{more}`, which BERT has not"):
        bring({"text": encoder()}, tmp_path / "relative.safetensors")


def test_a_bert_without_a_head_fills_no_head(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are of no format that is known for a 'mlm_head'"):
        bring({"mlm_head": mlm_head()}, saved(library_model("BertModel"), tmp_path))


# --- the lists of the docs ----------------------------------------------------------------------------------------

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop", "red", "circle", "##s", "two")
NARROW: Mapping[str, tuple[str, ...]] = {
    "vision": (f"width={WIDTH}", "depth=2", "heads=4"),
    "text": (f"width={WIDTH}", "heads=4"),
    "fusion": ("depth=2", "heads=4"),
    "decoder": ("heads=4",),
    "memory": ("size=16",),
}
"""Sizes that a paper's components are given; ALBEF's `text` has two layers of the file's four, BLIP's all."""


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> tuple[Any, Any]:
    """A folder with what the page saves, and small models for its `deit` and `bert-base-uncased`; these two."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(root / "docs" / "starting-weights.md"):
        if block.file is not None:
            Path(block.file).write_text(block.body, encoding="utf-8")
    deit = drawn(timm.create_model("deit_base_patch16_224", embed_dim=WIDTH, depth=2, num_heads=4))
    Path("deit").mkdir()
    save_file(deit.state_dict(), "deit/model.safetensors")
    model = library_model("BertForPreTraining", vocab_size=len(VOCABULARY), max_position_embeddings=512)
    model.save_pretrained("bert-base-uncased")
    Path("bert-base-uncased/vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    return deit, model


def begun(paper: str, depth: int) -> tuple[CheckedBlueprint, Model, Started]:
    """The page's blueprint, narrow; its model; and what `start` did to that."""
    here = Blueprint.load(f"my_{paper}.yaml").check().components
    narrow = [f"components.{name}.{size}" for name, sizes in NARROW.items() if name in here for size in sizes]
    sizes = [*narrow, f"components.text.depth={depth}", f"components.bert.vocab_size={len(VOCABULARY)}"]
    sizes.append("stages.pretrain.batch=8")  # which divides the queue
    checked = Blueprint.load(f"my_{paper}.yaml", overrides=sizes).check()
    model = build(checked, seed=0)
    return checked, model, start(components_of(checked, model), checked.start)


def words_of(checked: CheckedBlueprint) -> Text:
    """Two texts of 4 and 3 words in the input's frame."""
    ids = torch.zeros(2, checked.inputs["caption"].max_length, dtype=torch.long)
    ids[0, :4], ids[1, :3] = torch.tensor([2, 21, 22, 23]), torch.tensor([2, 24, 3])
    return Text(ids, torch.tensor([4, 3]), ids.shape[1])


def learn(checked: CheckedBlueprint, model: Model) -> None:
    """A step on random pictures: its losses are numbers, and every weight has a gradient."""
    size = checked.inputs["image"].size
    kind = checked.components["bert"]
    model.tokenizers = {"bert": kind.kind.implementation(kind.config)}
    batch = {"image": Image(torch.randn(2, 3, size, size)), "caption": words_of(checked)}
    losses = model(compile_stage(checked, "pretrain").run, batch, Step(params=checked.constants_and_starts()))
    total = sum(loss.value for loss in losses.values())
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.components.parameters())


def new_components(notes: Started) -> set[str]:
    return {name.split(".")[0] for name in notes.new if "cross_attention" not in name}


@torch.no_grad()
def seen(module: nn.Module, x: Any) -> Tensor:
    features: Tensor = module.eval()(x).features
    module.train()
    return features


def test_albef_starts_from_deit_and_bert(pretrained: tuple[Any, Any]) -> None:
    deit, model = pretrained
    checked, begun_model, notes = begun("albef", DEPTH // 2)
    ours, words = begun_model.components, words_of(checked)
    states = model.bert(**inputs(words), output_hidden_states=True).hidden_states
    close(seen(ours.text, words), states[DEPTH // 2].detach())
    close(seen(ours.fusion, standing_on(words, states[DEPTH // 2].detach())), states[-1].detach())
    assert torch.equal(ours.vision.layers[1].ffn.branch.fc2.weight, deit.blocks[1].mlp.fc2.weight)
    assert torch.equal(ours.mlm_head.bias, model.cls.predictions.bias)
    assert ours.mlm_head.weight is ours.text.embedding.weight
    assert new_components(notes) == {"image_proj", "text_proj", "similarity", "memory", "itm_head"}
    assert {name.split(".")[0] for name in notes.new if "cross_attention" in name} == {"fusion"}
    assert {
        "vision.positions: 14 x 14 patches resized to 16 x 16",
        "fusion.layers: the file's from 2 to 3",
        "left over in deit: head.bias, head.weight",
    } <= set(notes.lines())
    assert all("pooler" in left or "seq_relationship" in left for left in notes.unused["bert-base-uncased"])
    learn(checked, begun_model)


def test_blip_starts_from_deit_and_bert(pretrained: tuple[Any, Any]) -> None:
    deit, model = pretrained
    checked, begun_model, notes = begun("blip", DEPTH)
    ours, words = begun_model.components, words_of(checked)
    pixels = torch.randn(2, 3, 224, 224)
    close(seen(ours.vision, Image(pixels)), deit.forward_features(pixels).detach())
    with torch.no_grad():
        model.bert.embeddings.token_type_embeddings.weight.zero_()  # BLIP has none
        close(seen(ours.text, words), model.bert(**inputs(words)).last_hidden_state)
    mine, layer = ours.decoder.layers[1].self_attention, model.bert.encoder.layer[1].attention
    assert mine.branch.qkv.weight is not ours.text.layers[1].self_attention.branch.qkv.weight
    assert torch.equal(mine.branch.qkv.weight[:WIDTH], layer.self.query.weight)
    assert torch.equal(mine.norm.weight, layer.output.LayerNorm.weight)
    assert torch.equal(ours.lm_head.bias[:-2], model.cls.predictions.bias)
    assert ours.lm_head.bias[-2:].tolist() == [0, 0]
    assert ours.lm_head.weight is ours.decoder.embedding.weight is ours.text.embedding.weight
    assert new_components(notes) == {"image_proj", "text_proj", "similarity", "memory", "itm_head"}
    assert {
        "text.embedding.weight: 2 tokens more than in bert-base-uncased start anew",
        "text.token_types: the file's are left out",
    } <= set(notes.lines())
    learn(checked, begun_model)


def test_without_the_last_item_what_the_files_lack_is_an_error(pretrained: tuple[Any, Any]) -> None:
    page = Path("my_albef.yaml")
    page.write_text(page.read_text(encoding="utf-8").replace('  - {new: ["**"]}\n', ""), encoding="utf-8")
    with pytest.raises(UserError, match=r"no file has a weight for fusion\.layers\.0\.cross_attention"):
        begun("albef", DEPTH // 2)

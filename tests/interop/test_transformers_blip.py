"""transformers' BLIP and ours give the same numbers, live, on fresh random weights of several sizes, both ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from compose_vlp.blueprint.sections import Start
from compose_vlp.compiler.compile import compile_plan
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.interop import transformers_blip as names
from compose_vlp.interop.start import initialiser
from compose_vlp.interop.verify import checked
from compose_vlp.interop.weights import load_weights, weights_of
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Image, Index, Logits, Text
from tests.support import assert_near

CAPTIONS, MATCHES, ANSWERS = names.TASKS
WORDS = 50
"""Rows of the token table; the last two stand for `[DEC]` and `[ENC]`."""

IDS = (
    f"components.bert={{use: ids, vocab_size: {WORDS - 2}, begin: '1', end: '2', pad: '0', tokens: ['[DEC]', '[ENC]']}}"
)

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "vision_config": {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                          "num_attention_heads": 3, "image_size": 16, "patch_size": 8},
        "text_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "encoder_hidden_size": 24, "max_position_embeddings": 14},
        "image_text_hidden_size": 20,
    },
    "deeper, of other epsilons": {
        "vision_config": {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "image_size": 30, "patch_size": 10, "layer_norm_eps": 1e-2},
        "text_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
                        "encoder_hidden_size": 16, "max_position_embeddings": 9, "layer_norm_eps": 1e-3},
        "image_text_hidden_size": 8,
    },
}  # fmt: skip


@dataclass
class Pair:
    """A model of the library's with random weights, ours with the same, and one batch for both."""

    model_class: names.ModelClass
    library: Any
    blueprint: CheckedBlueprint
    ours: Model
    image: Tensor
    ids: Tensor
    mask: Tensor

    def text(self) -> Text:
        return Text(self.ids, self.mask.sum(1), self.ids.shape[1])

    def outputs(self) -> dict[str, Tensor]:
        """Ours, under the names that `of_theirs` gives them."""
        expected = {name: self.blueprint.values[name] for name in VALUES[self.model_class]}
        batch: dict[str, Any] = {"image": Image(self.image), "caption": self.text()}
        if self.model_class == ANSWERS:
            batch |= {"question": self.text(), "answers": self.text()}
            batch["answers.owner"] = Index(torch.arange(len(self.ids)))
        return values(self.blueprint, self.ours, expected, batch)

    @torch.no_grad()
    def of_theirs(self, model: Any) -> dict[str, Tensor]:
        given = {"pixel_values": self.image, "attention_mask": self.mask}
        if self.model_class == CAPTIONS:
            return {"logits": model(input_ids=self.begun("[DEC]"), **given).logits}
        asked = self.begun("[ENC]")
        if self.model_class == ANSWERS:
            return {"answer_logits": self.answered(model, asked)}
        alone = model(input_ids=self.ids, use_itm_head=False, **given)
        return {
            "matched": model(input_ids=asked, **given).itm_score,
            "image_embedding": F.normalize(model.vision_proj(alone.last_hidden_state[:, 0]), dim=-1),
            "text_embedding": F.normalize(model.text_proj(alone.question_embeds[:, 0]), dim=-1),
        }

    def answered(self, model: Any, asked: Tensor) -> Tensor:
        """The decoder's scores, which the library's output does not hold, question by question.

        Its cross-attention is never told of the mask, so that in a batch answers look at their question's padding.
        """
        actual = torch.zeros(*self.ids.shape, WORDS, dtype=torch.float64)
        for row, length in enumerate(self.mask.sum(1).tolist()):
            seen = model.vision_model(self.image[row : row + 1]).last_hidden_state
            question = model.text_encoder(asked[row : row + 1, :length], encoder_hidden_states=seen)
            answers = self.begun("[DEC]")[row : row + 1, :length]
            answered = model.text_decoder(answers, encoder_hidden_states=question.last_hidden_state)
            actual[row, :length] = answered.logits[0]
        return actual

    def begun(self, token: str) -> Tensor:
        ids = self.ids.clone()
        ids[:, 0] = WORDS - 2 if token == "[DEC]" else WORDS - 1
        return ids


VALUES: Mapping[names.ModelClass, tuple[str, ...]] = {
    CAPTIONS: ("logits",),
    MATCHES: ("matched", "image_embedding", "text_embedding"),
    ANSWERS: ("answer_logits",),
}
"""What is compared."""

READ: Mapping[names.ModelClass, frozenset[str]] = {
    CAPTIONS: frozenset({"vision", "decoder", "lm_head"}),
    MATCHES: frozenset({"vision", "text", "image_proj", "text_proj", "itm_head"}),
    ANSWERS: frozenset({"vision", "text", "answerer", "answer_head"}),
}
"""Components that a class has; the blueprint's others stay uncalled."""


@torch.no_grad()
def values(
    blueprint: CheckedBlueprint, model: Model, expected: Mapping[str, Ref], batch: Mapping[str, Any]
) -> dict[str, Tensor]:
    program = compile_plan(blueprint, "values", expected, trainable=lambda _: False)
    with evaluating(model):
        actual = model(program.run, batch)
    return {name: value.scores if isinstance(value, Logits) else value.features for name, value in actual.items()}


def config_of(sizes: Mapping[str, Any], model_class: names.ModelClass) -> Any:
    if model_class == ANSWERS:  # whose answers look at words with maps that are made for pictures
        width = sizes["text_config"]["hidden_size"]
        vision = {**sizes["vision_config"], "hidden_size": width, "num_attention_heads": 2}
        sizes = {"vision_config": vision, "text_config": {**sizes["text_config"], "encoder_hidden_size": width}}
    text = {**sizes["text_config"], "vocab_size": WORDS, "bos_token_id": WORDS - 2, "sep_token_id": 2}
    return transformers.BlipConfig(**{**sizes, "text_config": text})


def their_model(model_class: names.ModelClass, config: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    model = getattr(transformers, model_class)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def blueprint_of(model_class: names.ModelClass, config: Any) -> CheckedBlueprint:
    frame = config.text_config.max_position_embeddings
    texts = [IDS, f"inputs.caption.max_length={frame}"]
    if model_class == CAPTIONS:
        texts += ["outputs.caption.max_length=8"]
    if model_class == ANSWERS:
        texts += [f"inputs.{name}.max_length={frame}" for name in ("question", "answers")]
    return checked(names.BLUEPRINTS[model_class], [*names.overrides(config.to_dict(), model_class), *texts])


@pytest.fixture(params=[(c, s) for c in names.TASKS for s in SIZES], ids=" ".join)
def pair(request: pytest.FixtureRequest) -> Pair:
    model_class, sizes = request.param
    config = config_of(SIZES[sizes], model_class)
    library = their_model(model_class, config, 0)
    blueprint = blueprint_of(model_class, config)
    ours = build(blueprint, seed=1)
    kind = blueprint.components["bert"]
    ours.double()
    library.double()
    ours.tokenizers = {"bert": kind.kind.implementation(kind.config)}
    load_weights(ours, names.import_state(library.state_dict()), spare=set(blueprint.components) - READ[model_class])
    frame = config.text_config.max_position_embeddings
    ids = torch.randint(3, WORDS - 2, (3, frame))
    ids[:, 0] = 1
    mask = (torch.arange(frame) < torch.tensor([[frame], [frame // 2], [2]])).long()
    size = config.vision_config.image_size
    return Pair(model_class, library, blueprint, ours, torch.randn(3, 3, size, size).double(), ids * mask, mask)


def test_outputs_are_equal(pair: Pair) -> None:
    assert_close(pair, pair.outputs(), pair.of_theirs(pair.library))


def test_what_is_exported_loads_strictly_and_gives_the_same(pair: Pair) -> None:
    for parameter in pair.ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    fresh = their_model(pair.model_class, pair.library.config, 3).double()
    fresh.load_state_dict(names.export_state(weights_of(pair.ours), pair.model_class), strict=True)
    assert_close(pair, pair.outputs(), pair.of_theirs(fresh))


def assert_close(pair: Pair, ours: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> None:
    """In float64, within 1e-10 of the norm, wherever no padding stands."""
    assert ours.keys() == reference.keys()
    for name, actual in ours.items():
        expected = reference[name]
        if expected.ndim == 3:
            actual, expected = (features[pair.mask.bool()] for features in (actual, expected))
        assert_near(actual, expected, 1e-10, what=name)


def test_a_blueprint_starts_from_a_folder_of_the_librarys(pair: Pair, tmp_path: Path) -> None:
    pair.library.save_pretrained(tmp_path)
    fresh, notes = build(pair.blueprint, seed=2).double(), list[str]()
    whole = Start.model_validate({"from": str(tmp_path), "as": "transformers_blip"})
    rest = Start.model_validate({"new": ["**"]})
    initialiser(dataclasses.replace(pair.blueprint, start=(whole, rest)), notes.append)(fresh)
    ours, expected = weights_of(fresh), weights_of(pair.ours)
    read = READ[pair.model_class]
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items() if name.split(".")[0] in read)
    assert not any(line.startswith("left over") for line in notes)


def test_a_model_of_another_size_and_a_pickle_that_would_run_code_are_refused(tmp_path: Path) -> None:
    small, other = (config_of(sizes, MATCHES) for sizes in SIZES.values())
    their_model(MATCHES, other, 0).save_pretrained(tmp_path)
    torch.save({"model": Runs()}, tmp_path / "model.pth")
    blueprint = blueprint_of(MATCHES, small)
    for origin, notes in (
        (tmp_path, "weights of `vision` have other shapes or types"),
        (tmp_path / "model.pth", "asks for .*a file of anything but tensors is not opened"),
    ):
        item = Start.model_validate({"from": str(origin), "as": "transformers_blip"})
        with pytest.raises(UserError, match=notes):
            initialiser(dataclasses.replace(blueprint, start=(item,)), lambda _: None)(build(blueprint))


PROMPT = (7, 20, 5)
LENGTHS: list[dict[str, Any]] = [
    {},
    {"min_length": 7},
    {"max_length": 6, "min_length": 6},
    {"min_length": 9, "repetition_penalty": 1.0},
    {"num_beams": 1},
    {"num_beams": 1, "min_length": 8, "max_length": 12},
]


@pytest.mark.parametrize("how", LENGTHS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_captions_after_a_prompt_are_the_librarys(how: dict[str, Any], seed: int) -> None:
    """Beams are not divided by a length here: the library leaves the prompt out of it, the authors' code does not."""
    config = config_of(SIZES["small"], CAPTIONS)
    library = their_model(CAPTIONS, config, seed).double()
    with torch.no_grad():
        for parameter in library.parameters():
            parameter.mul_(3)  # so that words differ from picture to picture
        library.text_decoder.cls.predictions.bias[2] += 5  # so that texts end
    words = " ".join(map(str, PROMPT))
    asker = captioner(
        config, names.import_state(library.state_dict()), f"prompted=logits(caption=prompt('{words}', caption))"
    )
    image = torch.randn(4, 3, 16, 16).double()
    chosen: dict[str, Any] = {
        "num_beams": 3,
        "max_length": 10,
        "min_length": 0,
        "repetition_penalty": 3.0,
        **how,
    }
    if chosen["num_beams"] > 1:
        chosen.setdefault("length_penalty", 0.0)  # one beam has nothing to put in order, and is refused it
    begun = torch.tensor([[1, *PROMPT, 2]]).repeat(4, 1)
    expected = library.generate(pixel_values=image, input_ids=begun, do_sample=False, **chosen)
    actual = asker.ids_of_batch("caption", {"image": Image(image)}, beams=chosen.pop("num_beams"), **chosen)
    assert [to_end(row[1:]) for row in actual.tolist()] == [to_end(row[1 + len(PROMPT) :]) for row in expected.tolist()]


def to_end(ids: list[int]) -> list[int]:
    """The ids to the first end; what the library fills up with depends on its search."""
    return ids[: ids.index(2) + 1] if 2 in ids else ids


def captioner(config: Any, state: Mapping[str, Tensor], *overrides: str) -> Asker:
    frame = config.text_config.max_position_embeddings
    texts = [IDS, f"inputs.caption.max_length={frame}", f"outputs.caption.max_length={frame}", *overrides]
    blueprint = checked(names.BLUEPRINTS[CAPTIONS], [*names.overrides(config.to_dict(), CAPTIONS), *texts])
    kind = blueprint.components["bert"]
    model = build(blueprint).double()
    load_weights(model, state, spare=set(blueprint.components) - READ[CAPTIONS])
    return Asker(blueprint, model, {"bert": kind.kind.implementation(kind.config)}, torch.device("cpu"))


class Runs:
    """What a pickle would call when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the pickle was run",)


def test_there_and_back_leaves_every_tensor_as_it_was(pair: Pair) -> None:
    state = pair.library.state_dict()
    back = names.export_state(names.import_state(state), pair.model_class)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_numbers_of_positions_in_older_files_are_left_out(pair: Pair) -> None:
    state = pair.library.state_dict()
    tables = [name for name in state if name.endswith("position_embeddings.weight")]
    older = {name.replace("position_embeddings.weight", "position_ids"): torch.arange(9)[None] for name in tables}
    assert len(older) == len(tables) > 0
    assert names.import_state({**state, **older}).keys() == names.import_state(state).keys()


def test_a_tensor_too_few_or_too_many_is_named(pair: Pair) -> None:
    state = pair.library.state_dict()
    gone = {name: tensor for name, tensor in state.items() if name != "vision_model.post_layernorm.bias"}
    with pytest.raises(UserError, match="1 missing"):
        names.import_state(gone)
    with pytest.raises(UserError, match="1 unexpected") as more:
        names.import_state({**state, "logit_scale": torch.ones(1)})
    assert any("logit_scale" in hint for hint in more.value.problems[0].hints)


def test_a_pretrained_blip_is_a_captioner_and_a_matcher_but_answers_no_questions() -> None:
    ours = weights_of(build(checked("tiny/blip", ["inputs.image.size=16", IDS])))
    captioner = names.export_state(ours, CAPTIONS)
    assert torch.equal(captioner[names.TABLE], ours["text.embedding.weight"])
    assert "itm_head.weight" in names.export_state(ours, MATCHES)
    with pytest.raises(UserError, match=r"the model does not fit: .* missing"):
        names.export_state(ours, ANSWERS)


def test_other_models_and_settings_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="no state dict of transformers' BLIP") as caught:
        names.import_state({"visual_encoder.cls_token": torch.ones(1, 1, 8)})
    assert "format `blip`" in caught.value.problems[0].hints[0]
    config = transformers.BlipConfig().to_dict()
    config["text_config"] |= {"hidden_act": "relu", "encoder_hidden_size": 8}
    with pytest.raises(UserError) as odd:
        names.overrides(config, CAPTIONS)
    assert [hint.split("`")[1] for hint in odd.value.problems[0].hints] == [
        "text_config.hidden_act",
        "text_config.encoder_hidden_size",
    ]

"""Calls of one component in one batch, and contexts that are projected once: the same numbers from fewer calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import Compiled, compile_plan, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.sharing import keys_owner
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.values import Index, Labels, Text
from tests.compiler.sameness import NONE, outcome
from tests.compiler.sameness import assert_same as assert_same_outcome
from tests.models import TINY
from tests.support import assert_near, in_float64

Load = Callable[..., Blueprint]
NEGATIVES = SimpleNamespace(image=Index(torch.tensor([1, 2, 0, 0])), text=Index(torch.tensor([3, 0, 1, 2])))


def checked(name: str, *overrides: str) -> CheckedBlueprint:
    return Blueprint.load(name, overrides=[*TINY, *overrides]).check()


def program(blueprint: CheckedBlueprint, *without: str) -> Compiled:
    return compile_stage(blueprint, "pretrain", without=without)


def model_of(blueprint: CheckedBlueprint) -> Model:
    model = build(blueprint, seed=3).double()
    ids = {"[ENC]": 5, "[DEC]": 6}
    model.tokenizers = {"bert": SimpleNamespace(id_of=ids.__getitem__)}
    model.start_teachers(list(model.worlds))
    return model


def ragged(compiled: Compiled) -> tuple[dict[str, Any], Step]:
    """A batch of captions of different lengths, and what is drawn of it."""
    batch = in_float64(synthetic_batch(compiled.plan, 4, "cpu"))
    for name, text in batch.items():
        if isinstance(text, Text):
            lengths = torch.tensor([text.ids.shape[1], 5, 7, 3])
            batch[name] = Text(text.ids * (torch.arange(text.ids.shape[1]) < lengths[:, None]), lengths, text.frame)
    caption = batch["caption"]
    hidden = (torch.arange(caption.ids.shape[1]) % 3 == 1) & caption.valid
    masked = SimpleNamespace(
        text=Text(caption.ids.masked_fill(hidden, 4), caption.lengths, caption.frame),
        labels=Labels(torch.where(hidden, caption.ids, -100)),
    )
    return batch, Step({"alpha": 0.4}, choices={"neg": NEGATIVES, "masked": masked})


def results(model: Model, compiled: Compiled) -> tuple[dict[str, float], dict[str, torch.Tensor], torch.Tensor]:
    model.zero_grad()
    losses = {name: loss.value for name, loss in model(compiled.run, *ragged(compiled)).items()}
    torch.stack([*losses.values()]).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    entering = torch.cat([entry.features for entry in model.student.memory.pending.values()])
    return {name: float(loss.detach()) for name, loss in losses.items()}, gradients, entering


def assert_same(blueprint: CheckedBlueprint) -> None:
    model = model_of(blueprint)
    losses, gradients, entering = results(model, program(blueprint))
    expected = results(model, program(blueprint, "batch"))
    assert losses == pytest.approx(expected[0], rel=1e-6)
    assert gradients.keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert_near(gradients[name], gradient, floor=1e-12, what=name)
    assert_near(entering, expected[2])


@pytest.mark.parametrize("name", ["tiny/albef", "tiny/blip"])
def test_losses_gradients_and_what_enters_queues_stay_the_same(name: str) -> None:
    assert_same(checked(name))


def test_albefs_four_uses_of_the_fusion_are_one_call_on_keys_and_values_made_once() -> None:
    source = program(checked("tiny/albef"), "last_layer").source
    assert source.count(" m.fusion(") == source.count(" m.fusion.keys_values(") == 1
    assert "take(v," not in source, "a context is never indexed before its projection"
    assert source.count(" m.text(") == source.count(" m_momentum.text(") == source.count(" m.itm_head(") == 1
    assert "joint, wrong_image_joint, wrong_text_joint, predicted_joint = split(" in source


def test_uses_of_which_other_positions_are_read_are_calls_of_their_own() -> None:
    source = program(checked("tiny/albef")).source
    assert source.count(" m.fusion(") == 2 and source.count(" m.fusion.keys_values(") == 1
    assert "joint, wrong_image_joint, wrong_text_joint = split(" in source


def test_blips_decoder_reads_the_keys_and_values_that_the_encoder_made() -> None:
    source = program(checked("tiny/blip"), "last_layer").source
    assert source.count("keys_values(v)") == 1
    assert "m.decoder(x=logits_begin, kv=v_keys_of_text)" in source
    assert "m.text(x=joint_rows, kv=v_keys_of_text, rows=joint_looks)" in source


def test_parameters_that_are_not_the_same_make_keys_and_values_of_their_own() -> None:
    blueprint = checked("tiny/blip", "components.decoder.share={'*': text, self_attention: own, cross_attention: own}")
    source = program(blueprint).source
    assert "m.text.keys_values(v)" in source
    assert "m.decoder(x=logits_begin, context=v)" in source
    assert_same(blueprint)


def test_calls_that_wait_for_each_other_stay_apart() -> None:
    blueprint = checked("tiny/albef", "graph.joint=fusion(fusion(t, context=v), context=v)")
    source = program(blueprint, "last_layer").source
    assert source.count(" m.fusion(") == 2
    assert source.count(" m.fusion.keys_values(v)") == 1
    assert_same(blueprint)


@pytest.mark.parametrize(("length", "calls"), [(26, 1), (12, 2)])
def test_texts_are_padded_to_the_longest_where_they_are_nearly_as_long(length: int, calls: int) -> None:
    other = f"+inputs.other={{type: text, tokenizer: bert, max_length: {length}}}"
    blueprint = checked("tiny/albef", other, "+outputs.o=softmax(itm_head(fusion(text(other), context=v).cls))")
    right = {"joint": Ref("joint"), "o": Ref("outputs.o.fusion")}
    merged, plain = (compile_plan(blueprint, "both", right, without=w) for w in ((), ("batch",)))
    assert merged.source.count(" m.text(") == merged.source.count(" m.fusion(") == calls
    model = model_of(blueprint)
    batch, _ = ragged(merged)
    actual, expected = (model(compiled.run, batch) for compiled in (merged, plain))
    for name, value in expected.items():
        inside = value.valid
        assert_near(actual[name].features[inside], value.features[inside])
        assert torch.equal(actual[name].valid, inside)
        assert actual[name].parts[0].text is value.parts[0].text is batch["other" if name == "o" else "caption"]


def test_where_nothing_can_be_merged_the_program_is_the_same(small_coca: Load) -> None:
    blueprint = small_coca().check()
    assert program(blueprint).source == program(blueprint, "batch").source
    (applied,) = [done for done in program(blueprint).passes if done.name == "batch"]
    assert applied.note == ""


def test_the_pass_says_what_it_did() -> None:
    (applied,) = [done for done in program(checked("tiny/blip")).passes if done.name == "batch"]
    assert "one call of text for joint, wrong_image.joint, wrong_text.joint" in applied.note
    assert "keys and values of v once for 4 calls" in applied.note


# --- keys and values of two components


OTHERWISE = [
    "context_norm: true",
    "heads: 4",
    "width: 24",
    "depth: 1",
    "context_norm: true, norm_eps: 0.1",
    "cross_ffn: true",
    "activation: quick_gelu, cls: last",
]
"""Settings of a second decoder that shares all it can with the first: the first five make other keys and values."""


def two_decoders(folder: Path, settings: str, share: str) -> CheckedBlueprint:
    """tiny/coca, smaller, with a decoder of these settings that looks at the same context and shares with the first."""
    file = folder / "two.yaml"
    file.write_text(f"""
extends: tiny/coca
name: two
inputs: {{image: {{size: 16}}, caption: {{max_length: 12}}}}
components:
  bpe: {{vocab_size: 300}}
  vision: {{width: 32, depth: 1, heads: 2, mlp_width: 48, patch: 8, stem: patch, stem_depth: 0}}
  pool_many: {{queries: 5, heads: 2}}
  unimodal: {{width: 32, depth: 1, heads: 2, mlp_width: 48}}
  multimodal: {{depth: 2, heads: 2, mlp_width: 48}}
  second: {{use: causal_decoder, cross_attention: true, mlp_width: 48, {settings}, share: {{{share}}}}}
  second_head: {{use: lm_head}}
graph:
  second_joint: second(caption, context=visual)
  second_logits: second_head(second_joint)
losses:
  second: {{use: next_token, logits: second_logits}}
stages:
  pretrain: {{data: pairs, batch: 4, length: 2 steps, losses: [captioning, second]}}
""")
    return Blueprint.load(file).check()


@pytest.mark.parametrize("share", ['"*": multimodal', "cross_attention: multimodal", '"*": multimodal, ffn: own'])
@pytest.mark.parametrize("settings", OTHERWISE)
def test_decoders_that_share_make_keys_once_only_where_all_that_makes_them_is_alike(
    tmp_path: Path, share: str, settings: str
) -> None:
    base = {"depth": "2", "heads": "2"} | dict(pair.split(": ") for pair in settings.split(", "))
    written = ", ".join(f"{name}: {value}" for name, value in base.items())
    other_parameters = settings not in ("heads: 4", *OTHERWISE[-2:])
    if settings == "width: 24" or (share.startswith("cross_attention") and other_parameters):
        with pytest.raises(UserError, match="share"):
            two_decoders(tmp_path, written, share)
        return
    blueprint = two_decoders(tmp_path, written, share)
    model = build(blueprint, seed=3).double()
    compiled, plain = program(blueprint), program(blueprint, *NONE)
    batch = in_float64(synthetic_batch(compiled.plan, 3, "cpu"))
    expected = outcome(model, plain, batch, Step())
    assert_same_outcome(outcome(model, compiled, batch, Step()), expected, settings)
    assert compiled.source.count("keys_values(visual)") == (settings in OTHERWISE[-2:])


def test_a_kind_that_does_not_say_by_what_it_makes_keys_shares_them_with_nobody(tmp_path: Path) -> None:
    components = dict(two_decoders(tmp_path, "depth: 2, heads: 2", '"*": multimodal').components)
    assert keys_owner("second", components) == "multimodal"
    for name in ("second", "multimodal"):
        kind = components[name].kind
        silent = dataclasses.replace(kind, traits=dataclasses.replace(kind.traits, keys=None))
        changed = {**components, name: dataclasses.replace(components[name], kind=silent)}
        assert keys_owner("second", changed) == "second"


def test_a_piece_of_the_part_from_elsewhere_makes_other_keys(tmp_path: Path) -> None:
    components = dict(two_decoders(tmp_path, "depth: 2, heads: 2", '"*": multimodal').components)
    second = components["second"]
    for pattern, owner in (("layers.0.cross_attention.branch.kv", "second"), ("layers.*.ffn.norm", "multimodal")):
        kind = dataclasses.replace(second.kind, parts={**second.kind.parts, "piece": pattern})
        other = dataclasses.replace(second, kind=kind, share={"*": "multimodal", "piece": "own"})
        assert keys_owner("second", {**components, "second": other}) == owner


def test_all_answers_to_a_question_look_at_keys_that_are_made_once() -> None:
    answering = Blueprint.load("tiny/albef", "tiny/tasks/vqa_generate").check()
    stage = next(iter(answering.stages))
    source = compile_stage(answering, stage).source
    assert "keys_values(" in source and "rows=" in source
    one_each = compile_stage(checked("tiny/albef", "losses.itm.weight=0"), "pretrain").source
    assert "keys_values(" not in one_each, "each text looks at a picture of its own"

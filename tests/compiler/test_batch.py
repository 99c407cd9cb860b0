"""Calls of one component in one batch, and contexts that are projected once: the same numbers from fewer calls."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import Compiled, compile_plan, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.values import Image, Index, Labels, Text
from tests.models import TINY

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
    batch = synthetic_batch(compiled.plan, 4, "cpu")
    batch["image"] = Image(batch["image"].pixels.double())
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
    entering = torch.cat([one.features for one in model.student.memory.pending.values()])
    return {name: float(loss.detach()) for name, loss in losses.items()}, gradients, entering


def assert_same(blueprint: CheckedBlueprint) -> None:
    model = model_of(blueprint)
    losses, gradients, entering = results(model, program(blueprint))
    wanted = results(model, program(blueprint, "batch"))
    assert losses == pytest.approx(wanted[0], rel=1e-6)
    assert gradients.keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    torch.testing.assert_close(entering, wanted[2])


@pytest.mark.parametrize("name", ["tiny/albef", "tiny/blip"])
def test_losses_gradients_and_what_enters_queues_stay_the_same(name: str) -> None:
    assert_same(checked(name))


def test_albefs_four_uses_of_the_fusion_are_one_call_on_keys_and_values_made_once() -> None:
    source = program(checked("tiny/albef")).source
    assert source.count(" m.fusion(") == source.count(" m.fusion.keys_values(") == 1
    assert "take(v," not in source, "a context is never indexed before its projection"
    assert source.count(" m.text(") == source.count(" m_momentum.text(") == source.count(" m.itm_head(") == 1
    assert "joint, wrong_image_joint, wrong_text_joint, predicted_joint = split(" in source


def test_blips_decoder_reads_the_keys_and_values_that_the_encoder_made() -> None:
    source = program(checked("tiny/blip")).source
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
    source = program(blueprint).source
    assert source.count(" m.fusion(") == 2
    assert source.count(" m.fusion.keys_values(v)") == 1
    assert_same(blueprint)


@pytest.mark.parametrize(("length", "calls"), [(26, 1), (12, 2)])
def test_texts_are_padded_to_the_longest_where_they_are_nearly_as_long(length: int, calls: int) -> None:
    other = f"+inputs.other={{type: text, tokenizer: bert, max_length: {length}}}"
    blueprint = checked("tiny/albef", other, "+outputs.o=softmax(itm_head(fusion(text(other), context=v).cls))")
    wanted = {"joint": Ref("joint"), "o": Ref("outputs.o.fusion")}
    merged, plain = (compile_plan(blueprint, "both", wanted, without=w) for w in ((), ("batch",)))
    assert merged.source.count(" m.text(") == merged.source.count(" m.fusion(") == calls
    model = model_of(blueprint)
    batch, _ = ragged(merged)
    found, expected = (model(one.run, batch) for one in (merged, plain))
    for name, value in expected.items():
        inside = value.valid
        torch.testing.assert_close(found[name].features[inside], value.features[inside])
        assert torch.equal(found[name].valid, inside)
        assert found[name].parts[0].text is value.parts[0].text is batch["other" if name == "o" else "caption"]


def test_where_nothing_can_be_merged_the_program_is_the_same(small_coca: Load) -> None:
    blueprint = small_coca().check()
    assert program(blueprint).source == program(blueprint, "batch").source
    assert program(blueprint).passes[-1].note == ""


def test_the_pass_says_what_it_did() -> None:
    (applied,) = [one for one in program(checked("tiny/blip")).passes if one.name == "batch"]
    assert "one call of text for joint, wrong_image.joint, wrong_text.joint" in applied.note
    assert "keys and values of v once for 4 calls" in applied.note

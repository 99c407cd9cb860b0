"""Losses must reach weights; stages must train some of them, feed their inputs, and keep parameters' shapes."""

from __future__ import annotations

from collections.abc import Callable

from compose_vlp.errors import Problem
from compose_vlp.graph.checking.trainings import trained_by
from compose_vlp.graph.graph import CheckedBlueprint
from tests.graph.support import SMALL, checked, edited, paper, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]

STAGED = SMALL + "data:\n  pairs: {use: scenes}\nstages:\n  train: {data: pairs, length: 1 epoch, losses: [itc]}\n"


def test_a_loss_moves_what_gradients_reach() -> None:
    albef = paper("albef")
    itc = trained_by(albef, albef.losses["itc"])
    assert itc == {"vision", "text", "image_proj", "text_proj", "similarity"}
    mlm = trained_by(albef, albef.losses["mlm"])
    assert mlm == {"vision", "text", "fusion", "mlm_head"}
    blip = paper("blip")
    assert trained_by(blip, blip.losses["lm"]) == {"vision", "decoder", "lm_head", "text"}


def test_a_loss_that_reaches_no_weights_is_refused(only: Only) -> None:
    problem = only(
        "extends: albef\nlosses:\n  none: {use: contrastive, scores: [from_teacher, to_teacher]}\n"
        "graph:\n  from_teacher: momentum.similarity(momentum.image_embedding, keys.text)\n"
        "  to_teacher: momentum.similarity(momentum.text_embedding, keys.image)\n"
    )
    assert problem.message == "loss `none` reaches no weights, so nothing can be learnt from it"
    assert problem.span is not None
    assert problem.span.line == 3


def test_a_stage_that_trains_nothing_that_its_losses_reach(only: Only) -> None:
    text = edited(
        STAGED,
        ("  compare:", "  aside:      {use: adapter}\n  compare:"),
        ("  ie: ", "  w:   aside(t)\n  ie: "),
        ("shown: ie", "shown: ie\n  w_of: w"),
        ("losses: [itc]}", "losses: [itc], train: [aside]}"),
    )
    problem = only(text)
    assert problem.message == "stage `train` trains nothing that its losses reach"
    assert problem.hints == ("its losses reach `compare`, `image_proj`, `text`, `text_proj`, `vision`",)


def test_a_stage_that_freezes_everything(only: Only) -> None:
    problem = only(edited(STAGED, ("losses: [itc]}", "losses: [itc], freeze: ['*']}")))
    assert problem.message == "stage `train` trains nothing that its losses reach"


def test_the_caret_stands_under_what_leaves_nothing_to_train(only: Only) -> None:
    text = edited(STAGED, ("losses: [itc]}", "losses: [itc], train: [vision], freeze: ['*']}"))
    span = only(text).span
    assert span is not None
    assert text.splitlines()[span.line - 1][: span.column - 1].endswith(("freeze: [", "freeze: ['"))


ALL = "length: 1 epoch, losses: [images, texts, pair_images, pair_texts]"


def test_each_source_of_the_inputs_needs_data() -> None:
    stage = f"+stages.all={{data: {{main: pairs, images: pairs}}, {ALL}}}"
    (problem,) = problems("beit3", "+data.pairs={use: scenes}", stage)
    assert problem.message == "stage `all` has no data for the source `texts`, which feeds `lone_text`"
    assert problem.hints == ("`data: {images: ..., main: ..., texts: ...}`",)


def test_data_for_a_source_that_no_input_has() -> None:
    stage = "+stages.one={data: {main: pairs, imags: pairs}, length: 1 epoch, losses: [itc, itm, mlm]}"
    (problem,) = problems("albef", "+data.pairs={use: scenes}", stage)
    assert problem.message == "no input comes from the source `imags`"


def test_a_stage_runs_with_what_it_sets() -> None:
    vlmo = paper("vlmo")
    language = vlmo.of_stage("language")
    assert language.components["words_of"].config.length == 196
    assert vlmo.components["words_of"].config.length == 40
    assert vlmo.of_stage("pairs") is vlmo


def test_a_stage_may_not_change_shapes() -> None:
    (problem,) = problems("vlmo", "stages.language.set={components.bert.vocab_size: 99}")
    assert problem.message == (
        "stage `language` makes vocab_size of `words_of` 99, which is 30522: parameters keep their shapes"
    )
    assert problem.hints == ("only tables of positions are resized",)


def test_a_stage_may_not_make_a_component_another() -> None:
    (problem,) = problems("vlmo", "stages.language.set={components.words_of.use: token_embedding}")
    assert problem.message == ("stage `language` makes `words_of` a `token_embedding`: its parameters would be others")


def test_a_mistake_in_what_a_stage_sets_says_whose_it_is() -> None:
    (problem,) = problems("vlmo", "stages.language.set={components.patches_of.width: 512}")
    assert problem.message == "width 512 of patches against width 768 of words"
    assert problem.related[-1][0] == "with what stage `language` sets here"


def test_outputs_that_nobody_trained_are_remarked(child: Child) -> None:
    text = edited(
        STAGED,
        ("  compare:", "  judge:      {use: linear_head, classes: 2}\n  compare:"),
        ("shown: ie", "shown: judge(ie)"),
    )
    assert child(text).notes == ("output `shown` reads `judge`, which no stage trains",)
    assert child(text + "start: [{from: head.safetensors, to: judge}]\n").notes == ()


def test_teachers_are_typed() -> None:
    teacher = paper("albef").teachers["momentum"]
    assert (teacher.decay, teacher.update, teacher.mode) == (0.995, "before", "train")


def test_stages_and_start_are_typed() -> None:
    vlmo = paper("vlmo")
    assert list(vlmo.stages) == ["language", "pairs"]
    assert vlmo.stages["pairs"].losses == ("itc", "itc_vl", "itm", "mlm")
    assert [start.origin for start in vlmo.start] == ["weights/beit_base.safetensors", None]
    assert checked("beit3").settings["freeze"] == ("codebook",)

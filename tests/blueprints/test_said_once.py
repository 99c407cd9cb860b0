"""What follows from a mistake is not said beside it, and the message shows the nearest right thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp import Blueprint
from compose_vlp.errors import BlueprintError

MISTAKES = [
    ("losses: {extra: {use: vit, logits: logits}}", "`vit` is a component, not a loss", "in `components`"),
    ("losses: {extra: {use: nosuch}}", "no loss is called `nosuch`", "there are: answer_scores"),
    ("losses: {extra: {logits: logits}}", "`extra` does not say what it is: `use` is missing", "losses there are: "),
    (
        "losses: {captioning: {use: matching}}",
        "`captioning` needs `positive` and `negatives`",
        "matching takes positive",
    ),
    (
        "losses: {contrastive: {weight: rate}}\nparams: {rate: 1}\noptimizer: {lr: $rate}",
        "`weight` cannot be `rate`",
        "`$rate` reads the param",
    ),
    ("components: {more: {use: contrastive}}", "`contrastive` is a loss, not a component", "losses stand in `losses`"),
    ("components: {more: {use: nosuch}}", "no component is called `nosuch`", "there are: attention_pooler"),
    ("components: {more: {width: 3}}", "`more` does not say what it is: `use` is missing", "components there are: "),
    ("optimizer: {use: adam}", "`use` cannot be `adam`: expected adamw", "did you mean 'adamw'?"),
    ("losses: a b", "`losses` holds a mapping of named entries", "`losses: {NAME: {key: value}, ...}`"),
    ("graph: vision(image)", "`graph` holds a mapping of named entries", "`graph: {NAME: EXPRESSION, ...}`"),
    ("inputs: {image: {augment: {flip 0.5}}}", "`:` is missing", "here: `flip: 0.5`"),
    (
        "inputs: {caption: {tokenizer: wordpiece}}",
        "no component is called `wordpiece`",
        "`words: {use: wordpiece, ...}`",
    ),
    (
        "inputs: {caption: {tokenizer: word}}",
        "no component is called `word`",
        "`components: {word: {use: wordpiece, ...}}`",
    ),
    (
        "params: {rate: $rate}\noptimizer: {lr: $rate}",
        "`rate` is a param, which holds a value of its own",
        "write the number",
    ),
    (
        "params: {rate: $b, b: 0.1}\noptimizer: {lr: $rate, weight_decay: $b}",
        "`rate` is a param, which holds a value of its own",
        "write the number",
    ),
    (
        "params: {rate: {linear: [$b, 1]}, b: 0.1}\noptimizer: {lr: $rate, weight_decay: $b}",
        "`rate` is a param, which holds",
        "write the number",
    ),
]
MISTAKES += [
    ("inputs: {captoin: {type: text}}", "nothing reads input `captoin`", "did you mean 'caption'?"),
    ("components: {visoin: {width: 3}}", "nothing reads component `visoin`", "did you mean 'vision'?"),
    ("components: {extra: {use: vit, wdith: 3}}", "`vit` has no setting `wdith`", "did you mean 'width'"),
    ("losses: {extra: {use: contrastive}}", "`extra` needs `scores`", "contrastive takes scores"),
    ("graph: {extra: nosuch(image)}", "nothing is called `nosuch`", ""),
    ("graph: {extra: vision(image}", "`(` is never closed", ""),
    ("teachers: {extra: {dcay: 0.9}}", "no field is called `dcay`", "did you mean 'decay'?"),
    ("teachers: {extra: {decay: 2}}", "`decay` should be less than or equal to 1", ""),
    ("params: {extra: {cosine: [1]}}", "`cosine` is a list of 2, not of 1", ""),
    (
        "stages: {pretrain: {data: pairs, batch: 4, length: 2 steps, loses: [contrastive]}}",
        "no field is called `loses`",
        "did you mean 'losses'?",
    ),
    ("compiler: {nosuch: 3}", "`compiler` is not a section of a blueprint", "'optimizer'"),
]
"""Mistakes by what a file writes, how the message begins, and what one of its hints has."""


@pytest.mark.parametrize(("text", "message", "hint"), MISTAKES, ids=[text for text, *_ in MISTAKES])
def test_a_mistake_is_one_message_with_a_way_out(text: str, message: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: tiny/coca\nname: mine\n{text}\n")
    with pytest.raises(BlueprintError) as refused:
        Blueprint.load(file).check()
    (problem,) = refused.value.problems
    assert problem.message.startswith(message)
    assert not hint or any(hint in line for line in problem.hints), problem.hints


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("batch:64", "`batch=64`"),
        ("batch: 64", "`batch=64`"),
        ("batch 64", "`batch=64`"),
        ("components.vision.depth:3", "`components.vision.depth=3`"),
        ("components/vision/depth 3", "`components.vision.depth=3`"),
        ("components/vision/depth=3", "`components.vision.depth=...`"),
        ("components:vision:depth=3", "`components.vision.depth=...`"),
        ("components/*/depth=3", "`components.*.depth=...`"),
        ("vision/depth=3", "`vision.depth=...`"),
        ("--components.vision.depth=3", "`components.vision.depth=...`"),
        ("+components/extra={use: projection, out: 3}", "`components.extra=...`"),
        ("~losses/contrastive", "`losses.contrastive`"),
    ],
)
def test_an_override_in_another_tool_s_form_is_answered_with_ours(override: str, hint: str) -> None:
    with pytest.raises(BlueprintError) as refused:
        Blueprint.load("tiny/coca", overrides=[override]).check()
    (problem,) = refused.value.problems
    assert problem.hints == (hint,), problem

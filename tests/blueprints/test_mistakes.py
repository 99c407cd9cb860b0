"""Mistakes of newcomers, each told once: where the carets stand, what is wrong, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.errors import BlueprintError, Problem


@dataclass(frozen=True)
class Told:
    """One message: the text above its carets, a piece of what it says, and a piece of its hints."""

    at: str
    says: str
    way_out: str = ""


def mistakes_in(text: str, changes: Sequence[str], folder: Path) -> list[tuple[Told, Problem]]:
    """What a file `mine.yaml`, or tiny/coca where there is none, says with these changes."""
    names = ["tiny/coca"]
    if text:
        (folder / "mine.yaml").write_text(text)
        names = [str(folder / "mine.yaml")]
    try:
        Blueprint.load(*names, overrides=changes).check()
    except BlueprintError as error:
        return [
            (Told(_under(problem, error), problem.message, "; ".join(problem.hints)), problem)
            for problem in error.problems
        ]
    return []


def _under(problem: Problem, error: BlueprintError) -> str:
    span = problem.span
    if span is None:
        return ""
    return error.excerpts[span.file][span.line - 1][span.column - 1 : span.end_column - 1]


def agree(messages: list[tuple[Told, Problem]], expected: Sequence[Told]) -> None:
    """These messages and no others."""
    assert len(messages) == len(expected), [str(problem) for _, problem in messages]
    for (was, _), right in zip(messages, expected, strict=True):
        assert was.at == right.at, was
        assert right.says in was.says, was
        assert right.way_out in was.way_out, was


COCA = "extends: tiny/coca\n"
EXPRESSIONS = {
    "words.tokens + visual": Told("+", "`+` does not belong", "`add([words.tokens, visual])`"),
    "first(visual) + first(joint)": Told("+", "`+` does not belong", "`add([first(visual), first(joint)])`"),
    "add([visual, visual + visual])": Told("+", "`+` does not belong", "`add([a, b])`"),
    "visual - joint": Told("-", "`-` does not belong", "no arithmetic"),
    "0.5 * visual": Told("*", "`*` does not belong", "no arithmetic"),
    "visual ** 2": Told("**", "`**` does not belong", "no arithmetic"),
    "visual @ joint": Told("@", "`@` does not belong", "`similarity`"),
    "visual == joint": Told("=", "`==` does not belong", "no comparisons"),
    "pool_many(vision(image, depth=3))": Told("depth", "no port `depth`", "`components: {vision: {depth: ...}}`"),
    "vision(image)[1:2]": Told(":", "`:` does not belong", "no slices"),
    "vision(image)[:, 0]": Told(":", "`:` does not belong", "no slices"),
    "vision(image)[1, 2]": Told(",", "an index is one value", "no slices"),
    "vision(image)[1: 2]": Told(":", "`:` does not belong", "no slices"),
    "vision(image)[0]": Told("0", "an Index is wanted here", "`first(x)`"),
    "vision(image).mean()": Told("vision(image).mean", "only a component", "`mean(vision(image))`"),
    "vision(image).float()": Told("vision(image).float", "only a component", "no methods"),
    "vision(image).shape": Told("shape", "has no `.shape`", "it has"),
    'vision(f"a {image}")': Told('"a {image}"', "is missing before", "a string is only quoted"),
    "visual if image else joint": Told("if", "`if` does not fit", "no `if` in expressions"),
    "[x for x in visual]": Told("for", "is missing before `for`", "no `for` in expressions"),
    "visual and joint": Told("and", "`and` does not fit", "no `and` in expressions"),
    "(lambda x: x)(image)": Told(":", "`:` does not belong", "no functions of one's own"),
    "vision image": Told("image", "does not fit", "`vision(image)`"),
    "first(visual))": Told(")", "does not fit", "closes nothing"),
    "first(visual),": Told(",", "does not fit", "a list"),
    "visual | first": Told("|", "`|` does not belong", "no pipes"),
    "first(visual); first(joint)": Told(";", "`;` does not belong", "an entry of its own"),
}  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_of_another_language_has_a_way_out(expression: str, tmp_path: Path) -> None:
    expected = EXPRESSIONS[expression]
    value = expression if expression[0] != "[" else f"'{expression}'"
    agree(mistakes_in(f"{COCA}graph:\n  fused: {value}\n", (), tmp_path), [expected])


FILES = {
    "batch 64": Told("batch 64", "`:` is missing", "`batch: 64`"),
    "batch=64": Told("batch=64", "`:` is missing", "`batch: 64`"),
    "batch:64": Told("batch:64", "a space is missing after the colon", "`batch: 64`"),
    "graph:\n  t:unimodal(caption)": Told("t:unimodal(caption)", "a space is missing", "`t: unimodal(caption)`"),
    "graph:\n  fused: first(joint)\n  words:unimodal(caption)": Told(
        "words:unimodal(caption)", "a space is missing", "`words: unimodal(caption)`"
    ),
    "graph:\n  words = unimodal(caption)\n  fused: first(joint)": Told(
        "words = unimodal(caption)", "`:` is missing", "`words: unimodal(caption)`"
    ),
    "inputs:\n  image: {size 64}": Told("size 64", "`:` is missing", "`size: 64`"),
    "inputs:\n  image: {size=64}": Told("size=64", "`:` is missing", "`size: 64`"),
    "inputs:\n  image: {size:64}": Told("size:64", "a space is missing", "`size: 64`"),
    "inputs:\n  image:\n    size 64": Told("size 64", "holds a mapping", "`size: 64`"),
    "components:\n  - vision: {depth: 3}": Told("- vision: {depth: 3}", "holds a mapping", "leave out the `- `"),
    "components:\n  vision:\n    - depth: 3": Told("- depth: 3", "holds a mapping", "leave out the `- `"),
    "graph:\n  cap: {generate: logits, over: caption}": Told(
        "{generate: logits, over: caption}", "holds one expression", "it stands in `outputs`"
    ),
    "graph:\n  extra: {use: projection}": Told("{use: projection}", "holds one expression", "`components`"),
    "graph:\n  extra: {type: id}": Told("{type: id}", "holds one expression", "`inputs`"),
    "graph:\n  fused: [first(joint)]": Told("[first(joint)]", "holds one expression", "`concat([a, b])`"),
    "components:\n  vision: vit": Told("vit", "holds a mapping", "`{use: vit}`"),
    "inputs:\n  caption: text": Told("text", "holds a mapping", "`{type: text}`"),
    "data:\n  pairs: captions.jsonl": Told("captions.jsonl", "holds a mapping", "`{use: jsonl, path: captions.jsonl}`"),
    "optimizer: adamw": Told("adamw", "holds a mapping", "{use: adamw, lr: ...}"),
    "start: vit.safetensors": Told("vit.safetensors", "holds a list", "[{from: vit.safetensors}]"),
    "epochs: 10": Told("epochs", "is not a section", "`length: 10 epochs`"),
    "lr: 0.1": Told("lr", "is not a section", "`optimizer: {lr: ...}`"),
    "model: {width: 3}": Told("model", "is not a section", "`components`"),
    "dataset: {use: scenes}": Told("dataset", "is not a section", "`data`"),
}  # fmt: skip


@pytest.mark.parametrize("text", FILES)
def test_a_line_of_another_form_has_a_way_out(text: str, tmp_path: Path) -> None:
    agree(mistakes_in(f"{COCA}{text}\n", (), tmp_path), [FILES[text]])


@pytest.mark.parametrize("parent", ["mine", "mine.yaml", "./mine", "./mine.yaml"])
def test_a_file_that_extends_itself_is_told_so(parent: str, tmp_path: Path) -> None:
    agree(mistakes_in(f"extends: {parent}\n", (), tmp_path), [Told(parent, "a blueprint cannot extend itself")])


def test_a_missing_colon_hides_no_other_mistake(tmp_path: Path) -> None:
    text = f"{COCA}batch 64\nprecision: fp8\ngraph:\n  words:unimodal(caption)\n  fused: first(nothing)\n"
    messages = mistakes_in(text, (), tmp_path)
    agree(messages, [
        Told("batch 64", "`:` is missing"), Told("fp8", "cannot be `fp8`"),
        Told("words:unimodal(caption)", "a space is missing"),
        Told("nothing", "nothing is called `nothing`"),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("components:\n  unimodal: {cls: none}", Told("none", "this Sequence has no CLS")),
        ("components:\n  unimodal: {cls: first}", Told("first", "`cls` cannot be `first`")),
        ("components:\n  multimodal: {cross_attention: True}", Told("True", "`cross_attention` cannot be `True`")),
        ("components:\n  image_proj: {out: 64}", Told("64", "width 128 of")),
        ("components:\n  bpe: {vocab_size: -5}", Told("-5", "`vocab_size` should be")),
        ("components:\n  bpe: {use: vit}", Told("vit", "no tokenizer")),
        ("graph:\n  words: unimodal(caption).cls", Told("unimodal(caption).cls", "has no `.cls`")),
        ("graph:\n  logits: joint", Told("joint", "takes Logits")),
        ("inputs:\n  caption: {tokenizer: brt}", Told("brt", "no component is called `brt`")),
    ],
)
def test_a_change_that_a_parent_cannot_bear_is_told_once_where_it_was_made(
    text: str, expected: Told, tmp_path: Path
) -> None:
    agree(mistakes_in(f"{COCA}{text}\n", (), tmp_path), [expected])


def test_an_override_that_a_parent_cannot_bear_is_told_on_the_command_line(tmp_path: Path) -> None:
    agree(mistakes_in("", ["graph.logits=joint"], tmp_path), [Told("joint", "takes Logits")])


@pytest.mark.parametrize(
    ("change", "at", "says"),
    [
        ("components.vision.width=100000000000000000", "100000000000000000", "a weight so large that its size"),
        ("components.vision.mlp_width=100000000000000000", "100000000000000000", "a weight so large that its size"),
        ("components.vision.depth=999999999", "999999999", "`depth` should be less than or equal to 10000"),
        ("components.vision.stem_depth=999999999", "999999999", "`stem_depth` should be less than or equal to 10000"),
        ("components.vision.ffn={use: moe, experts: 100000000}", "100000000", "`experts` should be less than or equal"),
    ],
)
def test_numbers_that_no_machine_could_hold_are_mistakes_and_no_faults(
    change: str, at: str, says: str, tmp_path: Path
) -> None:
    agree(mistakes_in("", [change], tmp_path), [Told(at, says)])


def test_a_loss_that_a_stage_names_twice_would_count_once(tmp_path: Path) -> None:
    twice = ["stages.pretrain.losses=[contrastive, captioning, contrastive]"]
    agree(
        mistakes_in("", twice, tmp_path),
        [Told("contrastive", "stage `pretrain` names the loss `contrastive` twice", "`losses.contrastive.weight`")],
    )


def test_a_folder_in_the_place_of_a_blueprint_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").mkdir()
    with pytest.raises(BlueprintError, match=r"mine.yaml' is a folder"):
        Blueprint.load(str(tmp_path / "mine.yaml")).check()
    with pytest.raises(BlueprintError, match="no blueprint is called") as missing:
        Blueprint.load(str(tmp_path / "other.yaml")).check()
    assert "looked from" in str(missing.value.problems[0]) and "ends in .yaml" not in str(missing.value.problems[0])

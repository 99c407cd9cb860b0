"""Names that people choose, of whatever kind, are never read as Python; nor are those of files."""

from __future__ import annotations

import ast
import json
import unicodedata
from pathlib import Path

import pytest
import torch

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.compiler.accumulation import compile_pieces
from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.source import load_program, write_program
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.plan import Call, Constant, Plan, Ref
from compose_vlp.graph.types import EmbeddingType, ScalarType

BLUEPRINT = """
name: {name}
inputs:
  {image}: {{type: image, size: 16}}
  {caption}: {{type: text, tokenizer: {tokenizer}, max_length: 8}}
  {label}: {{type: label, classes: [a, b]}}
params:
  {param}: {{linear: [0, 0.4]}}
components:
  {tokenizer}: {{use: wordpiece, vocab_size: 300}}
  {vision}: {{use: vit, width: 16, depth: 1, heads: 2, patch: 8}}
  {text}: {{use: bert_encoder, width: 16, depth: 1, heads: 2, cross_attention: optional}}
  {masker}: {{use: mlm_masker}}
  {queue}: {{use: feature_queue, size: 8, queues: [{kept}]}}
  {head}: {{use: mlm_head}}
  {classes}: {{use: linear_head, classes: 2}}
  {similarity}: {{use: similarity}}
teachers:
  {teacher}: {{decay: 0.9}}
graph:
  {seen}: {vision}({image})
  {words}: {text}({caption})
  {both}: join({first_part}={seen}, {second_part}={words})
  {masked}: {masker}({caption})
  {foretold}: {head}({text}({masked}.text, context={seen}))
  {vectors}: normalize(mean({both}))
  {memory}: {queue}({kept}={teacher}.{vectors})
  {scores}: {similarity}({vectors}, {memory}.{kept})
  {chosen}: {classes}({vectors})
losses:
  {contrast}: {{use: contrastive, scores: [{scores}]}}
  {mlm}: {{use: masked_lm, logits: {foretold}, labels: {masked}.labels, soft: {teacher}.{foretold}, alpha: ${param}}}
  {entropy}: {{use: cross_entropy, logits: {chosen}, labels: {label}}}
outputs:
  {output}: {vectors}
data:
  {data}: {{use: scenes}}
optimizer: {{use: adamw, lr: 1e-3}}
stages:
  {stage}: {{data: {data}, batch: 4, length: 2 steps, losses: [{contrast}, {mlm}, {entropy}]}}
"""
ROLES = {role: f"my_{role}" for role in (
    "name", "image", "caption", "label", "param", "tokenizer", "vision", "text", "masker", "queue", "kept", "head",
    "classes", "similarity", "teacher", "seen", "words", "both", "first_part", "second_part", "masked", "foretold",
    "vectors", "memory", "scores", "chosen", "contrast", "mlm", "entropy", "output", "data", "stage")}  # fmt: skip
HOSTILE = (
    "class",
    "None",
    "import",
    "root",
    "m",
    "m_my_teacher",
    "stack",
    "getattr",
    "ﬁx",
    "größe",
    "名前",
    "nan",
    "cls",
)
"""Keywords, names that programs use themselves, Python's own, what NFKC changes, and other scripts."""


def written(folder: Path, **names: str) -> Path:
    file = folder / "hostile.yaml"
    file.write_text(BLUEPRINT.format(**{**ROLES, **names}), encoding="utf-8")
    return file


def assert_runs(blueprint: Blueprint, stage: str) -> str:
    """Compile a stage in every way and run it on meta; gives its source."""
    checked = blueprint.check()
    with torch.device("meta"):
        model = build(checked, "meta")
    model.tokenizers = synthetic_tokenizers(checked)
    step = Step(checked.constants_and_starts())
    sources = []
    for without in ((), tuple(PASSES)):
        compiled = compile_stage(checked, stage, without=without)
        batch = synthetic_batch(compiled.plan, 4)
        assert model(compiled.run, batch, step).keys() == set(checked.stages[stage].losses)
        sources.append(compiled.source)
    sources.append(compile_pieces(checked, stage).source)
    (output,) = checked.outputs
    compiled = compile_plan(checked, output, {output: checked.outputs[output].ref})
    assert list(model(compiled.run, synthetic_batch(compiled.plan, 4), step)) == [output]
    assert all(only_plain_names(source) for source in [*sources, compiled.source])
    return sources[0]


def only_plain_names(source: str) -> bool:
    """Every identifier of a program is ASCII, and it says nothing beside one function."""
    tree = ast.parse(source)
    actual = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    actual += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    actual += [node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword | ast.arg) and node.arg]
    return all(name.isascii() for name in actual) and all(isinstance(node, ast.FunctionDef) for node in tree.body)


REFUSING = ("kept", "first_part", "second_part")
"""Roles whose names belong to kinds, which refuse some."""
OTHERS = [role for role in ROLES if role not in ("name", *REFUSING)]
GROUPS = [OTHERS[at :: len(OTHERS) // len(HOSTILE) + 1] for at in range(len(OTHERS) // len(HOSTILE) + 1)]


@pytest.mark.parametrize("shift", range(0, len(HOSTILE), 3))
@pytest.mark.parametrize("roles", GROUPS, ids=lambda roles: roles[0])
def test_no_name_of_any_kind_is_read_as_python(tmp_path: Path, roles: list[str], shift: int) -> None:
    """A third of all roles have hostile names at once, another one each: all five turns give every role five names."""
    names = {role: HOSTILE[(at + shift) % len(HOSTILE)] for at, role in enumerate(roles)}
    assert_runs(Blueprint.load(written(tmp_path, **names)), names.get("stage", ROLES["stage"]))


@pytest.mark.parametrize("role", REFUSING)
def test_a_name_of_what_a_kind_keeps_or_takes_is_refused_or_not_read_as_python(tmp_path: Path, role: str) -> None:
    at = list(ROLES).index(role)
    for name in (HOSTILE[at % len(HOSTILE)], HOSTILE[(5 * at + 3) % len(HOSTILE)]):
        try:
            assert_runs(Blueprint.load(written(tmp_path, **{role: name})), ROLES["stage"])
        except BlueprintError as error:
            assert name in str(error)  # noqa: PT017 (names that kinds refuse)


@pytest.mark.parametrize("name", HOSTILE)
def test_one_name_for_a_component_a_stage_and_a_loss(tmp_path: Path, name: str) -> None:
    assert_runs(Blueprint.load(written(tmp_path, vision=name, stage=name, mlm=name, output=name, data=name)), name)


NAMES = [
    'a"b',
    "a'b",
    '"""',
    "'''",
    "\\x",
    "\\u",
    "\\N{DASH}",
    "a\\",
    "{name}",
    "%s",
    "a\u202eb",
    "a # b",
    '"""; boom()  # "',
]


@pytest.mark.parametrize("name", NAMES)
def test_a_blueprints_name_stays_a_text(tmp_path: Path, name: str) -> None:
    quoted = "'" + name.replace("'", "''") + "'"
    blueprint = Blueprint.load(written(tmp_path, name=quoted))
    source = assert_runs(blueprint, ROLES["stage"])
    documented = ast.get_docstring(ast.parse(source).body[0], clean=False)  # type: ignore[arg-type]
    assert documented is not None
    assert name in documented
    assert source.isascii()


FILES = ["a\nboom()", "a\r\nb", "a#b", '\'"""', "a\u202eb", "\x1b[31m", "a\u2028b", "\\x", "ünï", "a\x0cb", "${x}"]


@pytest.mark.parametrize("name", FILES)
def test_a_files_name_stays_in_its_comment(tmp_path: Path, name: str) -> None:
    written(tmp_path).rename(tmp_path / f"{name}.yaml")
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {json.dumps(f'{name}.yaml')}\nname: child\n")
    source = assert_runs(Blueprint.load(child), ROLES["stage"])
    assert source.isascii()
    assert source.isprintable() or all(line.isprintable() for line in source.splitlines())
    assert source.count("\n") == len([line for line in source.split("\n") if line]), "no line is empty or added"


SAME = {
    "components": ("ﬁx", "fix", "{use: projection, out: 4}"),
    "graph": ("ﬁx", "fix", "my_seen"),
    "losses": ("ﬁx", "fix", "{use: contrastive, scores: [my_scores]}"),
    "stages": ("\u212b", "\xc5", "{data: my_data, batch: 4, length: 1 step, losses: [my_mlm]}"),
    "data": ("x²", "x2", "{use: scenes}"),
}


@pytest.mark.parametrize("section", SAME)
def test_names_of_the_same_letters_clash(tmp_path: Path, section: str) -> None:
    *names, value = SAME[section]
    assert names[0] != names[1] == unicodedata.normalize("NFKC", names[0])
    file = tmp_path / "two.yaml"
    added = "".join(f"\n  {name}: {value}" for name in names)
    file.write_text(f"extends: hostile.yaml\n{section}:{added}\n", encoding="utf-8")
    written(tmp_path)
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load(file).check()
    (problem,) = [reported for reported in caught.value.problems if "written in two ways" in reported.message]
    assert (problem.span.line, problem.related[0][1].line) == (4, 3)  # type: ignore[union-attr]


def test_a_name_clashes_with_one_of_another_section_and_file(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("extends: hostile.yaml\ngraph:\n  fix: my_words\n", encoding="utf-8")
    written(tmp_path, vision="ﬁx")
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load(file).check()
    (problem,) = [reported for reported in caught.value.problems if "written in two ways" in reported.message]
    assert problem.span is not None
    assert (Path(problem.span.file).name, problem.span.line) == ("two.yaml", 3)
    assert Path(problem.related[0][1].file).name == "hostile.yaml"


@pytest.mark.parametrize("name", ["stack", "root", "step", "torch", "list", "class_", "take", "ﬁx", "_getattr"])
def test_a_plugins_function_may_have_any_name(name: str) -> None:
    called = []
    plan = Plan(
        (
            Call("x", "input", "x", (), EmbeddingType()),
            Call("y", "function", name, (("x", Ref("x")),), EmbeddingType()),
        ),
        {"y": Ref("y")},
    )
    source = write_program(plan, name)
    result = load_program(source, name, {name: lambda x: called.append(x) or "given"})(None, {"x": 3}, None)
    assert result == {"y": "given"}
    assert called == [3]


def test_constants_that_repr_does_not_write_are_written() -> None:
    values = [float("inf"), float("-inf"), 1e300, "a\n'\"\\", True, None, -3]
    args = tuple((f"x{i}", Constant(value)) for i, value in enumerate(values))
    plan = Plan((Call("y", "function", "collect", (*args, ("class", Constant(1))), ScalarType()),), {"y": Ref("y")})
    given = load_program(write_program(plan, "p"), "p", {"collect": lambda **named: named})(None, {}, None)["y"]
    assert list(given.values()) == [*values, 1]
    assert "class" in given


def test_functions_of_plugins_are_called_by_their_own_names_where_python_allows(tmp_path: Path) -> None:
    assert "normalize(" in assert_runs(Blueprint.load(written(tmp_path)), ROLES["stage"])
    assert registry.get("normalize").name == "normalize"

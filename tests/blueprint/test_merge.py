"""Inheritance: entry by entry, field by field, late-bound, and every value remembers its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Scalar
from compose_vlp.blueprint.show import values
from compose_vlp.blueprint.write import expression_text
from compose_vlp.errors import Span
from tests.blueprint.conftest import Resolve, only, pointed, problems_of


def place(span: Span) -> str:
    return f"{Path(span.file).name}:{span.line}:{span.column}"


def origin(document: Document, *path: str) -> str:
    entry = document.at(*path)
    assert entry is not None
    return place(entry.value.span)


def test_fields_merge_and_each_says_where_it_came_from(child: Resolve) -> None:
    document = child("extends: albef\ninputs:\n  image: {size: 384}\n").document
    assert values(document)["inputs"]["image"] == {"type": "image", "size": 384}
    assert origin(document, "inputs", "image", "type") == "albef.yaml:6:19"
    assert origin(document, "inputs", "image", "size") == "child.yaml:3:17"
    size = document.at("inputs", "image", "size")
    assert size is not None
    assert size.earlier is not None
    assert place(size.earlier.value.span) == "albef.yaml:6:32"


def test_another_use_replaces_the_entry_whole(child: Resolve) -> None:
    document = child("extends: albef\ncomponents:\n  vision: {use: timm, model: swin_tiny}\n").document
    assert values(document)["components"]["vision"] == {"use": "timm", "model": "swin_tiny"}


def test_the_same_use_merges(child: Resolve) -> None:
    document = child("extends: albef\ncomponents:\n  vision: {use: vit, depth: 2}\n").document
    assert values(document)["components"]["vision"] == {
        "use": "vit",
        "width": 768,
        "depth": 2,
        "heads": 12,
        "patch": 16,
    }


def test_another_type_replaces_an_input_whole(child: Resolve) -> None:
    document = child("extends: albef\ninputs:\n  image: {type: id}\n").document
    assert values(document)["inputs"]["image"] == {"type": "id"}


def test_a_param_is_replaced_whole(child: Resolve) -> None:
    document = child("extends: albef\nparams:\n  alpha: {cosine: [0, 1]}\n").document
    assert values(document)["params"] == {"alpha": {"cosine": [0, 1]}}


def test_an_output_of_another_form_is_replaced_whole_and_one_of_the_same_merges(child: Resolve) -> None:
    text = "extends: blip\noutputs:\n  caption: {beams: 5}\n  match: {relevance: matched, to: v, through: text}\n"
    document = child(text).document
    assert values(document)["outputs"]["caption"] == {"generate": "logits", "over": "caption", "beams": 5}
    assert values(document)["outputs"]["match"] == {"relevance": "matched", "to": "v", "through": "text"}
    document = child("extends: blip\noutputs:\n  caption: {rank: logits, over: caption, among: caption}\n").document
    assert values(document)["outputs"]["caption"] == {"rank": "logits", "over": "caption", "among": "caption"}


def test_a_mix_replaces_a_source_whole(load: Resolve) -> None:
    parent = "data:\n  a: {use: scenes}\n  b: {use: scenes}\n  web: {use: jsonl, path: x}\n"
    document = load(
        "child.yaml", parent=parent, child="extends: parent.yaml\ndata:\n  web: {mix: {a: 1, b: 2}}\n"
    ).document
    assert values(document)["data"]["web"] == {"mix": {"a": 1, "b": 2}}


def test_stages_and_start_are_replaced_whole(child: Resolve) -> None:
    text = "extends: vlmo\nstart: [{new: ['**']}]\nstages:\n  pairs: {data: pairs, losses: [itc, itc_vl, itm, mlm]}\n"
    resolution = child(text)
    document = resolution.document
    assert values(document)["start"] == [{"new": ["**"]}]
    assert document.stages.names == ("pairs",)
    assert not resolution.problems
    assert any("leaves in no stage, so gone: losses.text" in note for note in resolution.notes)
    assert any("graph.alone" in note for note in resolution.notes)


def test_the_optimizer_merges_field_by_field(load: Resolve) -> None:
    parent = "optimizer: {use: adamw, lr: 1e-4, rules: [{match: '**.bias', weight_decay: 0}]}\n"
    document = load("child.yaml", parent=parent, child="extends: parent.yaml\noptimizer: {lr: 1e-5}\n").document
    assert values(document)["optimizer"] == {
        "use": "adamw", "lr": 1e-5, "rules": [{"match": "**.bias", "weight_decay": 0}],
    }  # fmt: skip


def test_a_free_section_is_kept(child: Resolve) -> None:
    document = child("extends: coca\nx-why: {note: [1, no]}\n").document
    assert values(document)["x-why"] == {"note": [1, "no"]}


def test_readers_of_an_entry_read_its_last_expression(child: Resolve) -> None:
    document = child(
        "extends: albef\ngraph:\n  t: adapter(previous)\ncomponents:\n  adapter: {use: adapter}\n"
    ).document
    entry = document.graph.entry("t")
    assert entry is not None
    assert expression_text(entry) == "adapter(text(caption))"
    assert [e.name for e in document.graph][:2] == ["v", "t"]


def test_previous_is_bound_to_the_next_earlier_file(load: Resolve) -> None:
    resolution = load(
        "second.yaml",
        "t=third(previous)",
        "+components.third={use: adapter}",
        first="extends: albef\ngraph:\n  t: one(previous)\ncomponents:\n  one: {use: adapter}\n",
        second="extends: first.yaml\ngraph:\n  t: two(previous, previous)\ncomponents:\n  two: {use: adapter}\n",
    )
    assert not resolution.problems
    entry = resolution.document.graph.entry("t")
    assert entry is not None
    chain = []
    step = entry
    while step is not None:
        assert isinstance(step.value, Scalar)
        chain.append(step.value.text)
        step = step.earlier  # type: ignore[assignment]
    assert chain == ["third(previous)", "two(previous, previous)", "one(previous)", "text(caption)"]
    assert expression_text(entry) == "third(two(one(text(caption)), one(text(caption))))"
    assert set(resolution.document.names) >= {"one", "two", "third", "text"}


def test_previous_keeps_alive_what_the_replaced_expression_read(child: Resolve) -> None:
    resolution = child("extends: coca\ngraph:\n  logits: previous\n")
    assert not resolution.problems
    assert "lm_head" in resolution.document.names


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("extends: albef\ngraph:\n  txt: text(previous)\n", "child.yaml:3:13 previous",
         "`previous` replaces nothing: there is no earlier `graph.txt`"),
        ("extends: albef\nlosses:\n  itc: {scores: [previous, t2i]}\n", "child.yaml:3:18 previous",
         "`previous` stands in graph entries and in outputs that are expressions"),
        ("extends: albef\noutputs:\n  other: softmax(previous)\n", "child.yaml:3:18 previous",
         "`previous` replaces nothing: there is no earlier `outputs.other`"),
        ("extends: albef\ndrop: [graph.fused]\ngraph:\n  fused: mean(previous)\n", "child.yaml:4:15 previous",
         "`previous` replaces nothing: there is no earlier `graph.fused`"),
    ],
)  # fmt: skip
def test_previous_where_nothing_is_replaced(child: Resolve, text: str, place: str, message: str) -> None:
    assert problems_of(child(text)) == [(place, message)]


def test_previous_over_a_near_name_offers_it(child: Resolve) -> None:
    problem = only(child("extends: albef\ngraph:\n  text_embeding: adapter(previous)\n"))
    assert problem.hints == ("did you mean 'text_embedding' or 'image_embedding'?",)
    dropped = only(child("extends: albef\ndrop: [graph.fused]\ngraph:\n  fused: mean(previous)\n"))
    assert dropped.hints == ("`graph.fused` was dropped at child.yaml:2",)


def test_an_output_expression_may_read_previous(child: Resolve) -> None:
    resolution = child("extends: albef\noutputs:\n  match: first(previous)\n")
    assert not resolution.problems
    assert values(resolution.document)["outputs"]["match"] == "first(softmax(matched))"


def test_one_namespace(child: Resolve) -> None:
    resolution = child("extends: albef\ngraph: {text: v}\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:2:9 text"
    assert problem.message == "`text` is the name of a component already: all names are in one namespace"
    assert [(label, place(span)) for label, span in problem.related] == [("first", "albef.yaml:11:3")]


def test_a_clash_within_a_file_points_at_the_later_line(child: Resolve) -> None:
    resolution = child(
        "graph:\n  a: f(b)\n  t: a\ncomponents:\n  a: {use: vit}\ninputs:\n  b: {type: image}\noutputs: {o: t}\n"
    )
    assert problems_of(resolution) == [
        ("child.yaml:5:3 a", "`a` is the name of a graph entry already: all names are in one namespace")
    ]


def test_outputs_and_losses_have_names_of_their_own(child: Resolve) -> None:
    assert not child("extends: coca\noutputs: {visual: visual, captioning: logits}\n").problems


def test_a_blueprint_without_a_name_is_called_as_its_file(load: Resolve) -> None:
    assert load("hybrids/coca_momentum").document.name == "coca_momentum"
    assert load("child.yaml", child="extends: blip\n").document.name == "child"
    assert load("blip").document.name == "blip"
    assert load("blip", "name=other").document.name == "other"
    assert load("child.yaml", child="extends: blip\n").document.text("paper").endswith("2201.12086")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("lossess: {}", "child.yaml:1:1 lossess", "`lossess` is not a section of a blueprint"),
        ("graph:", "child.yaml:1:1 graph", "`graph` is empty"),
        ("graph: f(x)", "child.yaml:1:8 f(x)", "`graph` holds a mapping of named entries"),
        ("name: [a]", "child.yaml:1:7 [a]", "`name` holds one value"),
        ("start: {new: a}", "child.yaml:1:8 {new: a}", "`start` holds a list: `[...]`, or lines that begin with `- `"),
        ("drop: {a: b}", "child.yaml:1:7 {a: b}", "`drop` holds one value or a list"),
        ("optimizer: adamw", "child.yaml:1:12 adamw", "`optimizer` holds a mapping: `{key: value}`"),
        ("graph: {t: {a: b}}", "child.yaml:1:12 {a: b}", "graph entry `t` holds one expression"),
        ("graph: {t: }", "child.yaml:1:9 t", "graph entry `t` has no value"),
        ("graph: {1t: a}", "child.yaml:1:9 1t", "`1t` is no name for a graph entry"),
        ("graph: {vit-b: a}", "child.yaml:1:9 vit-b", "`vit-b` is no name for a graph entry"),
        ("components: {previous: {use: vit}}", "child.yaml:1:14 previous", "`previous` is reserved"),
        ("components: {losses: {use: vit}}", "child.yaml:1:14 losses", "`losses` is reserved"),
        ("components: {v: vit}", "child.yaml:1:17 vit", "component `v` holds a mapping: `{key: value}`"),
        ("components: {v: {use: vit, depth: }}", "child.yaml:1:28 depth", "`depth` has no value"),
        ("losses: {v: [a]}", "child.yaml:1:13 [a]", "loss `v` holds a mapping: `{key: value}`"),
        ("losses: {v: {use: x, scores: [a, ]}}", "", ""),
        ("graph:\n  t: f(a,\n    b)", "child.yaml:2:6 f(a,", "an expression over several lines has no exact places"),
        ("graph:\n  t: >\n    f(a)", "child.yaml:3:5 f(a)", "an expression over several lines has no exact places"),
    ],
)
def test_the_shape_of_a_file(child: Resolve, text: str, place: str, message: str) -> None:
    expected = [(place, message)] if message else []
    actual = problems_of(child(f"{text}\nx-draft: 1\n"))
    assert actual == expected


def test_every_mistake_of_shape_is_found_in_one_go(child: Resolve) -> None:
    actual = problems_of(child("graf: 1\ngraph: {t: , 2: a, u: b}\ninputs: 3\n"))
    assert [place for place, _ in actual] == [
        "child.yaml:1:1 graf",
        "child.yaml:2:9 t",
        "child.yaml:2:14 2",
        "child.yaml:3:9 3",
    ]

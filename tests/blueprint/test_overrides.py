"""Overrides: one grammar, typed by the destination, carets into what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose_vlp.blueprint.arguments import split_arguments
from compose_vlp.blueprint.nodes import COMMAND_LINE, Mapping
from compose_vlp.blueprint.overrides import apply_settings
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.show import values
from compose_vlp.errors import Problem
from tests.blueprint.conftest import Resolve, only, pointed, problems_of

KINDS = {
    "vit": {"width", "depth", "heads", "patch", "positions", "cls"},
    "bert_encoder": {"width", "depth", "heads", "positions"},
    "cross_attention_fuser": {"depth", "heads"},
    "contrastive": {"scores", "soft", "alpha"},
    "masked_lm": {"logits", "labels", "soft", "alpha"},
    "matching": {"positive", "negatives"},
    "timm": {"model", "width"},
    "normalize": set(), "softmax": set(), "gathered": set(), "mean": set(),
}  # fmt: skip


def kinds(name: str) -> frozenset[str] | None:
    return frozenset(KINDS[name]) if name in KINDS else None


def at(document, *path: str) -> object:  # type: ignore[no-untyped-def]
    data: object = values(document)
    for name in path:
        assert isinstance(data, dict)
        data = data[name]
    return data


def refused(load: Resolve, *overrides: str, paper: str = "albef") -> tuple[str, str, tuple[str, ...]]:
    """Text under the carets, message and hints of the one mistake."""
    resolution = load(paper, *overrides, fields_of=kinds)
    problem: Problem = only(resolution)
    assert problem.span is not None
    assert problem.span.file == COMMAND_LINE
    return (
        pointed(problem, resolution.document.lines()).partition(" ")[2].partition(" ")[2],
        problem.message,
        problem.hints,
    )


# --- what they do


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("inputs.image.size=384", ("inputs", "image", "size"), 384),
        ("components.vision.depth=2", ("components", "vision", "depth"), 2),
        ("components.vision.positions=rope", ("components", "vision", "positions"), "rope"),
        ("losses.itc.weight=0.5", ("losses", "itc", "weight"), 0.5),
        ("losses.itc.soft=[i2t, t2i]", ("losses", "itc", "soft"), ["i2t", "t2i"]),
        ("alpha=0", ("params", "alpha"), 0),
        ("params.alpha={linear: [0, 1], over: 2 epochs}", ("params", "alpha"), {"linear": [0, 1], "over": "2 epochs"}),
        ("params.alpha.over=3 epochs", ("params", "alpha", "over"), "3 epochs"),
        ("precision=bf16", ("precision",), "bf16"),
        ("length=20 epochs", ("length",), "20 epochs"),
        ("freeze=[vision, '**.norm']", ("freeze",), ["vision", "**.norm"]),
        ("train=text", ("train",), "text"),
        ("optimizer.lr=1e-4", ("optimizer", "lr"), 1e-4),
        ("optimizer={lr: 1e-4, weight_decay: 0}", ("optimizer",), {"lr": 1e-4, "weight_decay": 0}),
        ("title=a: b, c", ("title",), "a: b, c"),
        ("title='a, b'", ("title",), "a, b"),
        ("image={size: 224}", ("inputs", "image"), {"type": "image", "size": 224}),
        ("vision={use: timm, model: swin}", ("components", "vision"), {"use": "timm", "model": "swin"}),
        ("components.vision.use=timm", ("components", "vision"), {"use": "timm"}),
        ("t=mean(text(caption))", ("graph", "t"), "mean(text(caption))"),
        ("graph.joint=fusion(t, context=v)", ("graph", "joint"), "fusion(t, context=v)"),
        ("outputs.match=softmax( matched )", ("outputs", "match"), "softmax( matched )"),
        ("outputs.match={relevance: matched, to: v, through: fusion}", ("outputs", "match"),
         {"relevance": "matched", "to": "v", "through": "fusion"}),
        ("inputs.image.augment.flip=0.5", ("inputs", "image", "augment"), {"flip": 0.5}),
        ("+x-note=tried", ("x-note",), "tried"),
        ("x-note={a: 1}", ("x-note",), {"a": 1}),
        ("+outputs.pooled=first(v)", ("outputs", "pooled"), "first(v)"),
        ("+data.pairs={use: jsonl, path: a.jsonl}", ("data", "pairs"), {"use": "jsonl", "path": "a.jsonl"}),
    ],
)  # fmt: skip
def test_a_value_is_set_where_the_path_says(load: Resolve, override: str, path: tuple[str, ...], value: object) -> None:
    resolution = load("albef", override, fields_of=kinds)
    assert problems_of(resolution) == []
    assert at(resolution.document, *path) == value


def test_an_override_is_a_source_with_places_of_its_own(load: Resolve) -> None:
    document = load("albef", "alpha=0", "  inputs.image.size = 384".strip().replace(" ", "")).document
    entry = document.at("inputs", "image", "size")
    assert entry is not None
    assert (entry.value.span.file, entry.value.span.line, entry.value.span.column) == ("command line", 3, 19)
    assert document.lines()["command line"] == ("albef", "alpha=0", "inputs.image.size=384")
    assert entry.earlier is not None
    assert entry.earlier.value.span.file.endswith("albef.yaml")


def test_the_adapter_of_the_manual_reaches_every_pass(load: Resolve) -> None:
    resolution = load(
        "albef", "t=adapter(previous)", "+components.adapter={use: adapter, width: 64}", "~losses.mlm", fields_of=kinds
    )
    assert problems_of(resolution) == []
    assert at(resolution.document, "graph", "t") == "adapter(text(caption))"
    assert "mlm" not in resolution.document.losses
    (note,) = resolution.notes
    assert note == (
        "command line leaves unread, so gone: components.masker, components.mlm_head, graph.masked, graph.guess, "
        "graph.predicted, graph.taught"
    )


def test_another_use_clears_the_old_fields_whatever_the_order(load: Resolve) -> None:
    resolution = load("albef", "components.vision.use=timm", "components.vision.model=swin", fields_of=kinds)
    other = load("albef", "components.vision.model=swin", "components.vision.use=timm", fields_of=None)
    assert at(other.document, "components", "vision") == {"use": "timm", "model": "swin"}
    assert problems_of(resolution) == []
    assert at(resolution.document, "components", "vision") == {"use": "timm", "model": "swin"}


def test_a_star_reaches_the_entries_whose_kind_has_the_field_and_says_which(load: Resolve) -> None:
    resolution = load("albef", "components.*.positions=rope", fields_of=kinds)
    assert problems_of(resolution) == []
    assert at(resolution.document, "components", "vision", "positions") == "rope"
    assert at(resolution.document, "components", "text", "positions") == "rope"
    assert resolution.notes == ("components.*.positions is components.vision.positions, components.text.positions",)


@pytest.mark.parametrize(
    ("override", "reached"),
    [
        ("inputs.*.size=224", ["inputs.image.size"]),
        ("losses.*.weight=0", ["losses.itc.weight", "losses.itm.weight", "losses.mlm.weight"]),
        ("losses.*.alpha=0", ["losses.itc.alpha", "losses.mlm.alpha"]),
        ("components.*_proj.out=128", ["components.image_proj.out", "components.text_proj.out"]),
        ("teachers.*.decay=0.99", ["teachers.momentum.decay"]),
    ],
)
def test_stars_by_section(load: Resolve, override: str, reached: list[str]) -> None:
    resolution = load("albef", override, fields_of=kinds)
    assert problems_of(resolution) == []
    assert resolution.notes[0] == f"{override.partition('=')[0]} is {', '.join(reached)}"


def test_removals(load: Resolve) -> None:
    document = load("albef", "~losses.*.soft", "~outputs.*_embedding", "~t2i_m", "~losses.itm").document
    assert [list(entry.value.names) for entry in document.losses if isinstance(entry.value, Mapping)] == [
        ["use", "scores", "alpha"], ["use", "logits", "labels", "alpha"],
    ]  # fmt: skip
    assert document.outputs.names == ("match",)
    assert "t2i_m" not in document.names


def test_an_override_wins_over_every_file_and_leaves_notes_for_what_it_orphans(load: Resolve) -> None:
    resolution = load("blip", "components.hard.floor=0.5", "~losses.itm", "~outputs.match")
    assert problems_of(resolution) == []
    assert "hard" not in resolution.document.names  # what an override leaves unread is no mistake


def test_an_override_of_one_stage_leaves_the_others(load: Resolve) -> None:
    stages = at(load("vlmo", "stages.pairs.length=2 epochs").document, "stages")
    assert isinstance(stages, dict)
    assert list(stages) == ["language", "pairs"]
    assert stages["pairs"]["length"] == "2 epochs"
    assert stages["pairs"]["data"] == "pairs"
    stages = at(load("vlmo", "+stages.more={data: pairs, losses: [itc]}").document, "stages")
    assert isinstance(stages, dict)
    assert list(stages) == ["language", "pairs", "more"]
    stages = at(load("vlmo", "stages.pairs={data: pairs, losses: [itc, itm, itc_vl, mlm]}").document, "stages")
    assert isinstance(stages, dict)
    assert list(stages) == ["language", "pairs"]
    assert list(load("vlmo", "~stages.language").document.stages.names) == ["pairs"]


def test_an_override_in_a_free_section_leaves_the_rest(child: Resolve) -> None:
    document = child("extends: coca\nx-paper: {a: 1, b: {c: 2}}\n", "x-paper.b.c=3", "x-paper.d=4").document
    assert at(document, "x-paper") == {"a": 1, "b": {"c": 3}, "d": 4}


# --- what they refuse


@pytest.mark.parametrize(
    ("override", "under", "message", "hint"),
    [
        ("size=384", "size", "`size` is not a name of the blueprint", "there is inputs.image.size"),
        ("mlm=0", "mlm", "`mlm` is not a name of the blueprint", "there is losses.mlm"),
        ("vison=0", "vison", "`vison` is not a name of the blueprint", "did you mean 'vision' or 'fusion'?"),
        ("vision.depth=3", "vision.depth", "`vision` is not a section", "the full path is components.vision.depth"),
        ("component.vision.depth=3", "component.vision.depth", "`component` is not a section",
         "did you mean 'components'?"),
        ("components.visoin.depth=3", "components.visoin.depth", "no component is called `visoin`",
         "did you mean 'components.vision' or 'components.fusion' or 'components.memory'?"),
        ("components.vision.detph=3", "components.vision.detph", "component `vision` has no field `detph`",
         "did you mean 'depth' or 'width' or 'patch'?"),
        ("inputs.image.sise=3", "inputs.image.sise", "input `image` has no field `sise`", "did you mean 'size'?"),
        ("teachers.momentum.rate=3", "teachers.momentum.rate", "teacher `momentum` has no field `rate`",
         "did you mean 'update'?"),
        ("optimizer.rate=3", "optimizer.rate", "`optimizer` has no field `rate`",
         "fields: betas, clip, eps, layer_decay, lr, rules, use, weight_decay"),
        ("graph.t.x=3", "graph.t.x", "`graph.t` has no fields", "set it whole: graph.t=..."),
        ("precision.x=3", "precision.x", "`precision` has no fields", "set it whole: precision=..."),
        ("extends=coca", "extends", "`extends` is for files",
         "name blueprints before the overrides; remove with `~path`"),
        ("+graph.t=f(x)", "graph.t", "`graph.t` exists", "without `+` it is changed: graph.t=..."),
        ("+components.vision.depth=3", "components.vision.depth", "`components.vision.depth` exists",
         "without `+` it is changed: components.vision.depth=..."),
        ("+components.vision.cls=none", "components.vision.cls",
         "`+` adds an entry, and `components.vision.cls` is none",
         "a field is set without it: components.vision.cls=..."),
        ("~losses.nope", "losses.nope", "`losses.nope` matches nothing",
         "did you mean 'losses.mlm' or 'losses.itm' or 'losses.itc'?"),
        ("~nope", "nope", "`nope` is not a name of the blueprint", ""),
        ("~t=3", "=3", "`~path` takes no value", "an override is path=value, +path={...} or ~path"),
        ("losses.itc.alpha=", "", "`losses.itc.alpha=` is empty",
         "did the shell eat a `$name`? write it in single quotes: 'losses.itc.alpha=$name'"),
        ("components.*.experts=3", "components.*.experts", "no component that matches has a field `experts`", ""),
        ("components.*.scores=3", "components.*.scores", "no component that matches has a field `scores`",
         "there is losses.itc.scores"),
        ("components.*=3", "components.*", "`components.*` names no field",
         "`*` stands for entries: components.*.positions=rope"),
        ("a..b=3", "a..b", "`a..b` is no path", "a path is names between dots: inputs.image.size"),
        ("=3", "=3", "`=3` is no override", "an override is path=value, +path={...} or ~path"),
        ("+components.9x={use: adapter}", "components.9x", "`9x` is no name for a component",
         "a name is a letter, then letters, digits and `_`"),
        ("+components.adapter={use: adapter}", "components.adapter", "nothing reads component `adapter`",
         "whatever a file writes must be read by a loss or an output"),
        ("freeze=[vision, **.norm]", "**.norm", "a pattern that begins with `*` needs quotes", "write '**.norm'"),
        ("losses.itc={alpha: f(a, b)}", ",", "YAML cuts `f(a, b)` at the comma",
         "inside {} and [] stand names and fields; give the expression a name in `graph`"),
        ("image={size: 1, size: 2}", "size", "`size` is written twice, first at line 2", ""),
        ("losses.itc.alpha=$alhpa", "$alhpa", "no param is called `$alhpa`", "did you mean 'alpha'?"),
        ("freeze=[visoin]", "visoin", "`visoin` matches nothing: no component is called `visoin`",
         "did you mean 'vision' or 'fusion'?"),
        ("i2t=similarity(previous2, previous)", "", "", ""),
    ],
)  # fmt: skip
def test_what_is_refused_points_into_the_argument(
    load: Resolve, override: str, under: str, message: str, hint: str
) -> None:
    if not message:
        assert problems_of(load("albef", override, fields_of=kinds)) == []
        return
    actual = refused(load, override)
    assert actual[:2] == (under, message)
    if hint:
        assert actual[2][0].startswith(hint.split(" or ", maxsplit=1)[0].rstrip("?"))


def test_a_star_on_a_field_that_no_component_has_names_the_kinds_that_do(files: object, papers: Path) -> None:
    resolution = resolve(["coca"], ["components.*.model=swin"], library=papers, fields_of=kinds, kinds=lambda: [*KINDS])
    problem = only(resolution)
    assert problem.message == "no component that matches has a field `model`"
    assert problem.hints == ("kinds that have it: timm",)


def test_previous_over_a_new_entry_is_refused(load: Resolve) -> None:
    resolution = load("albef", "+graph.n=f(previous)", "+outputs.n=n")
    assert problems_of(resolution) == [
        ("command line:2:12 previous", "`previous` replaces nothing: there is no earlier `graph.n`")
    ]


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("inputs.image.size=384", "inputs.*.size=224", "inputs.image.size"),
        ("alpha=0", "params.alpha=1", "params.alpha"),
        ("alpha=0", "params.alpha.over=1 epoch", "params.alpha"),
        ("~losses.mlm", "losses.mlm.weight=2", "losses.mlm"),
        ("components.vision={depth: 1}", "components.vision.depth=2", "components.vision"),
        ("+components.own={use: adapter}", "components.own.use=other", "components.own"),
    ],
)
def test_two_overrides_of_one_thing_are_refused_at_the_second(
    load: Resolve, first: str, second: str, what: str
) -> None:
    resolution = load("albef", first, second)
    problem = next(p for p in resolution.problems if p.message.startswith("two overrides"))
    assert problem.message == f"two overrides of `{what}`"
    assert (
        pointed(problem, resolution.document.lines())
        == f"command line:3:{1 + second.startswith(('+', '~'))} {second.lstrip('+~').partition('=')[0]}"
    )
    assert [span.line for _, span in problem.related] == [2]


def test_adding_an_entry_twice_is_refused(load: Resolve) -> None:
    resolution = load("albef", "+outputs.a=v", "+outputs.a=t")
    assert [message for _, message in problems_of(resolution)] == ["`outputs.a` exists"]


def test_all_overrides_are_judged_in_one_go(load: Resolve) -> None:
    assert len(load("albef", "size=1", "~nope", "x.y=2", "alpha=").problems) == 4


def test_names_and_overrides_are_told_apart() -> None:
    assert split_arguments(["albef", "t=a(b)", "tasks/vqa", "~losses.mlm", "+x={}"]) == (
        ["albef", "tasks/vqa"], ["t=a(b)", "~losses.mlm", "+x={}"],
    )  # fmt: skip


def test_a_line_break_inside_an_argument_does_not_shift_the_others(load: Resolve) -> None:
    document = load("albef", "title=a\nb", "alpha=0").document
    assert document.text("title") == "a b"
    entry = document.at("params", "alpha")
    assert entry is not None
    assert entry.value.span.line == 3


# --- a stage's `set`


def test_a_stages_set_is_laid_over_the_document(load: Resolve) -> None:
    document = load("vlmo").document
    entry = document.at("stages", "language", "set")
    assert entry is not None
    assert isinstance(entry.value, Mapping)
    staged, problems = apply_settings(document, entry.value)
    assert not problems
    assert at(staged, "inputs", "caption", "max_length") == 196
    assert at(document, "inputs", "caption", "max_length") == 40
    changed = staged.at("inputs", "caption", "max_length")
    assert changed is not None
    assert changed.value.span == entry.value.entries[0].value.span


def test_a_mistake_in_a_stages_set_points_at_its_key(child: Resolve) -> None:
    text = (
        "extends: coca\n"
        "stages: {a: {data: d, losses: [contrastive, captioning], set: {inputs.image.sise: 3}}}\n"
        "data: {d: {use: scenes}}\n"
    )
    document = child(text).document
    entry = document.at("stages", "a", "set")
    assert entry is not None
    assert isinstance(entry.value, Mapping)
    (problem,) = apply_settings(document, entry.value)[1]
    assert pointed(problem, document.lines()) == "child.yaml:2:64 inputs.image.sise"

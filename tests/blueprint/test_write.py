"""The resolved document: shown, written so that it reads back, compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose_vlp.blueprint.diff import diff
from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.locate import builtin_names
from compose_vlp.blueprint.reader import read_text
from compose_vlp.blueprint.resolve import resolve
from compose_vlp.blueprint.show import as_data, values
from compose_vlp.blueprint.write import lines, write
from tests.blueprint.conftest import PAPERS, Resolve, problems_of

ADAPTER = ("t=adapter(previous)", "+components.adapter={use: adapter, width: 64}")


def read_back(document: Document, folder: Path) -> Document:
    path = folder / "resolved.yaml"
    path.write_text(write(document), encoding="utf-8")
    resolution = resolve([str(path)], library=folder)
    assert problems_of(resolution) == []
    assert resolution.notes == ()
    return resolution.document


MODELS = [(name,) for name in builtin_names(PAPERS) if not name.startswith("tasks/")]
CROSSED = [(paper, "tasks/vqa_generate") for paper in ("coca", "albef", "blip", "vlmo", "beit3")]


@pytest.mark.parametrize(
    "arguments", [*MODELS, *CROSSED, ("albef", *ADAPTER, "alpha=0", "title=a: b # c")], ids=" ".join
)
def test_what_is_written_reads_back_to_the_same_document(
    load: Resolve, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    document = load(*arguments).document
    again = read_back(document, tmp_path)
    assert diff(document, again) == []
    assert values(again) == values(document)


def test_previous_is_written_out(load: Resolve, tmp_path: Path) -> None:
    text = write(load("albef", *ADAPTER).document)
    assert "previous" not in text
    assert "  t: adapter(text(caption)) " in text


def test_a_replaced_entry_that_is_called_gets_a_name(child: Resolve, tmp_path: Path) -> None:
    document = child("extends: albef\ngraph:\n  matched: previous(fused=joint.cls)\n").document
    text = write(document)
    assert "  matched_before: itm_head(fused) " in text
    assert "  matched: matched_before(fused=joint.cls) " in text
    again = read_back(document, tmp_path)
    assert list(again.graph.names).count("matched_before") == 1


def test_every_line_says_where_its_values_came_from(load: Resolve) -> None:
    shown = {line.text.strip(): line for line in lines(load("blip", "inputs.image.size=384").document)}
    here = str(PAPERS)
    assert shown["size: 384"].comment == f"command line, replaces {here}/blip.yaml:8"
    assert shown["type: image"].comment == f"{here}/albef.yaml:6"
    assert shown["size: 57600"].comment == f"{here}/blip.yaml:15, replaces {here}/albef.yaml:16"
    assert shown["use: bert_encoder"].comment == f"{here}/blip.yaml:12"  # the same value replaced nothing
    assert shown["vision: {use: vit, width: 768, depth: 12, heads: 12, patch: 16}"].origin == f"{here}/albef.yaml:10"
    assert shown["components:"].comment == ""


def test_the_data_of_a_document_holds_values_and_places(load: Resolve) -> None:
    data = as_data(load("blip", "alpha=0").document)
    json.dumps(data)
    assert data["name"] == "blip"
    assert [Path(file).name for file in data["files"]] == ["albef.yaml", "blip.yaml"]
    assert data["document"]["inputs"]["image"] == {"type": "image", "size": 224}
    assert data["origins"]["params.alpha"] == "command line"
    assert data["origins"]["inputs.image.size"].endswith("blip.yaml:8")
    assert data["replaces"]["inputs.image.size"].endswith("albef.yaml:6")
    assert list(data["document"])[:3] == ["name", "paper", "params"]


# --- any text at all

AWKWARD = ["1e-4", "no", "010", "null", "-3", "*x", "&x", "!t", "'", '"', "$p", "%", "@", "`", "~", "?", ">", "[a]"]
AWKWARD += ["{", "-", ":", "x:", "<<", "- a", "a: b", "a #b", "f(a, b)", "a\nb", "a\n", "\n", " a ", "|"]
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"]), max_size=12)
texts = st.one_of(words, st.sampled_from(AWKWARD))
trees = st.recursive(
    texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words.filter(bool), inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_free_section_survives_writing(tree: object) -> None:
    """JSON is YAML: what it says is read, written by us, and read again."""
    first = read_text("x-any: " + json.dumps(tree), "f.yaml")
    if first.problems:  # what the language refuses (a key that is `<<`, say) is not written
        return
    second = read_text(write(Document(first.root)), "g.yaml")
    assert second.problems == []
    assert values(Document(second.root)) == values(Document(first.root))


# --- diff


def changes(before: Document, after: Document) -> list[str]:
    return [f"{c.sign} {'.'.join(c.path)}: {c.before} -> {c.after}" for c in diff(before, after)]


def test_only_meaning_differs(load: Resolve, tmp_path: Path) -> None:
    resolution = load(
        "a.yaml", a="inputs: {i: {type: image, size: 224}}\nparams: {p: 1e-4}\ngraph:\n  v: f(i,$p)\noutputs: {o: v}\n"
    )
    other = load(
        "b.yaml",
        b="title: other\noutputs:\n  o: 'v'\ngraph: {v: 'f( i, $p )'}\nparams: {p: 0.0001}\n"
        "inputs:\n  i: {size: 224.0, type: image}\n",
    )
    assert diff(resolution.document, other.document) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("inputs.image.size=384", ["~ inputs.image.size: 256 -> 384"]),
        ("alpha=0", ["~ params.alpha: {linear: [0, 0.4], over: 1 epoch} -> 0"]),
        ("joint=fusion(t,context=v)", []),
        ("fused=mean(joint)", ["~ graph.fused: joint.cls -> mean(joint)"]),
        ("~outputs.match", ["- outputs.match: softmax(matched) -> None"]),
        ("+outputs.new=v", ["+ outputs.new: None -> v"]),
        ("precision=bf16", ["+ precision: None -> bf16"]),
        ("components.masker.whole_words=true", ["+ components.masker.whole_words: None -> true"]),
        ("components.masker.probability='0.15'", ["~ components.masker.probability: 0.15 -> 0.15"]),
        ("name=other", []),
        ("+x-note=tried", []),
    ],
)
def test_changes_by_path(load: Resolve, override: str, expected: list[str]) -> None:
    assert changes(load("albef").document, load("albef", override).document) == expected


def test_a_change_says_where_both_values_stand(load: Resolve) -> None:
    (change,) = diff(load("albef").document, load("albef", "inputs.image.size=384").document)
    assert str(change) == f"~ inputs.image.size: 256 -> 384  (command line replaces {PAPERS}/albef.yaml:6)"
    assert change.as_data() == {
        "path": "inputs.image.size", "before": "256", "after": "384",
        "before_at": f"{PAPERS}/albef.yaml:6", "after_at": "command line",
    }  # fmt: skip


def test_true_and_one_differ(files: Callable[..., None]) -> None:
    def of(text: str) -> Document:
        return Document(read_text(f"params: {{a: {text}}}\n", "f.yaml").root)

    assert diff(of("true"), of("1"))
    assert not diff(of("768"), of("768.0"))
    assert diff(of("[1, 2]"), of("[2, 1]"))

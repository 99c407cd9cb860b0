"""Writing with keys and values kept gives the scores of reading the whole text again at every word, in any graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.write import write
from compose_vlp.compiler.incremental import Incremental, compile_incremental
from compose_vlp.compiler.model import build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import BlueprintError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.inference.generate import Cached, Recomputed, generate
from compose_vlp.runtime.inference.search import Search
from compose_vlp.values import Image, Text
from tests.models import tiny

ROWS, WORDS = 3, 5
SMALL = {"width": 32, "depth": 2, "heads": 4, "mlp_width": 48, "out": 24, "queries": 5, "vocab_size": 320}
"""Sizes that settings of these names get."""


def shrunk(*names: str, overrides: tuple[str, ...] = ()) -> CheckedBlueprint:
    """A blueprint with its own graph and small sizes wherever a file writes one."""
    document = Blueprint.load(*names, overrides=list(overrides)).document
    written = {
        f"components.{entry.name}.{field.name}={SMALL[field.name]}"
        for entry in document.components.entries
        for field in getattr(entry.value, "entries", ())
        if field.name in SMALL
    }
    patches = {
        f"components.{entry.name}.patch=8"
        for entry in document.components.entries
        if "patch" in getattr(entry.value, "names", ())
    }
    sizes = {
        f"inputs.{entry.name}.size=16"
        for entry in document.inputs.entries
        if "size" in getattr(entry.value, "names", ())
    }
    return Blueprint.load(*names, overrides=[*sorted(written | patches | sizes), *overrides]).check()


def batch_of(blueprint: CheckedBlueprint, programs: Incremental) -> dict[str, Any]:
    """Random pictures, and texts of several lengths, in float64; no two rows alike."""
    generator = torch.Generator().manual_seed(1)
    values = synthetic_batch(programs.whole.plan, ROWS, "cpu", seed=3)
    for name, value in values.items():
        if isinstance(value, Image):
            values[name] = Image(value.pixels.double() * 2)
        if isinstance(value, Text):
            lengths = torch.randint(2, value.ids.shape[1] + 1, (len(value.ids),), generator=generator)
            lengths[0] = value.ids.shape[1]
            padding = torch.arange(value.ids.shape[1]) >= lengths[:, None]
            values[name] = Text(value.ids.masked_fill(padding, 0), lengths, value.frame)
    owned = {f"{programs.over}.owner", f"{programs.over}.weight", programs.over}
    return {name: value for name, value in values.items() if name not in owned}


def differences(blueprint: CheckedBlueprint, output: str, beams: int = 2, mask: int | None = None) -> list[float]:
    """At every word the largest difference of scores, relative to the scores' spread over the vocabulary."""
    programs = compile_incremental(blueprint, output)
    model = build(blueprint, seed=7).double().eval()
    model.tokenizers = synthetic_tokenizers(blueprint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0).add_(torch.randn_like(parameter) * 0.1)
    spec = blueprint.inputs[programs.over]
    assert isinstance(spec, TextInput)
    vocabulary = int(blueprint.type_of(blueprint.outputs[output].ref).sizes()["classes"] or 0)
    how = Search(end=2, pad=0, max_length=spec.max_length, beams=beams, mask=mask)
    start = torch.full((ROWS, 1), 1)
    batch = batch_of(blueprint, programs)
    generator = torch.Generator().manual_seed(5)
    actual: list[float] = []
    with torch.no_grad():
        both = [kind(model, programs, batch, start, how, spec.max_length) for kind in (Cached, Recomputed)]
        begun = start.repeat_interleave(beams, 0)
        (words, kept), (again, whole) = (decoder.begin(begun) for decoder in both)
        assert torch.equal(words, again)
        actual.append(apart(kept, whole))
        for _ in range(min(WORDS, spec.max_length - words.shape[1])):
            order = torch.randint(beams, (ROWS, beams), generator=generator) + torch.arange(ROWS)[:, None] * beams
            for decoder in both:
                decoder.reorder(order.flatten())
            new = torch.randint(4, vocabulary, (ROWS * beams, 1), generator=generator)
            kept, whole = (decoder.step(new) for decoder in both)
            actual.append(apart(kept, whole))
            assert apart(whole, whole.roll(beams, 0)) > 1e-6, "rows are told apart, or nothing is proved"
    return actual


def apart(scores: Tensor, other: Tensor) -> float:
    assert scores.shape == other.shape
    return float((scores - other).abs().max() / other.std(-1).min())


PAPERS = [
    ("coca", "caption"),
    ("coca_base", "caption"),
    ("coca_openclip_vit_b_32", "caption"),
    ("blip", "caption"),
    ("blip_large", "caption"),
    ("tiny/coca", "caption"),
    ("tiny/blip", "caption"),
    ("coca hybrids/coca_momentum", "caption"),
    ("hybrids/blip_pooled", "caption"),
    ("hybrids/vlmo_captioner", "caption"),
    ("coca tasks/captioning", "caption"),
    ("blip tasks/captioning", "caption"),
    ("beit3_base tasks/masked_captioning", "caption"),
    ("tiny/beit3 tiny/tasks/masked_captioning", "caption"),
    ("blip tasks/blip/captioning", "caption"),
    ("tiny/coca tiny/tasks/captioning", "caption"),
    ("albef tasks/vqa_generate", "answer"),
    ("albef tasks/albef/vqa", "answer"),
    ("blip tasks/vqa_generate", "answer"),
    ("blip tasks/blip/vqa", "answer"),
    ("coca tasks/vqa_generate", "answer"),
    ("tiny/albef tiny/tasks/vqa_generate", "answer"),
]


WRITES = re.compile(r"\{generate:|^\s*generate:", re.MULTILINE)


def test_every_file_that_writes_is_among_them(root: Path) -> None:
    library = root / "blueprints"
    writing = {
        str(file.relative_to(library).with_suffix(""))
        for file in library.rglob("*.yaml")
        if WRITES.search(file.read_text(encoding="utf-8"))
    }
    hybrids = {f"hybrids/{file.stem}" for file in (library / "hybrids").glob("*.yaml")}
    hybrids = {name for name in hybrids if WRITES.search(write(Blueprint.load(name).document))}
    tried = {name for names, _ in PAPERS for name in names.split()}
    assert writing | hybrids <= tried


@pytest.mark.parametrize(("names", "output"), PAPERS)
def test_every_output_that_writes_is_the_same_with_keys_and_values_kept(names: str, output: str) -> None:
    assert max(differences(shrunk(*names.split()), output)) < 1e-9


def test_a_word_read_at_a_mask_leaves_nothing_of_the_mask_behind() -> None:
    # padding hidden by its id, and an attention of its own
    for names in (
        "blip",
        "coca_openclip_vit_b_32",
        "beit3_base tasks/masked_captioning",
        "beit3 tasks/masked_captioning",
    ):
        assert max(differences(shrunk(*names.split()), "caption", mask=3)) < 1e-9


@pytest.mark.parametrize(
    "how",
    [
        {"beams": 1},
        {"beams": 3},
        {"beams": 3, "length_penalty": 0.6, "repetition_penalty": 1.3},
        {"top_p": 0.9},
        {"top_k": 5, "temperature": 0.7},
    ],
    ids=str,
)
def test_captions_at_masks_are_the_same_texts_with_keys_kept_greedy_by_beams_and_drawn(how: dict[str, Any]) -> None:
    blueprint = shrunk("beit3_base", "tasks/masked_captioning")
    programs = compile_incremental(blueprint, "caption")
    model = build(blueprint, seed=11).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0).add_(torch.randn_like(parameter) * 0.1)
    batch, start = batch_of(blueprint, programs), torch.zeros(ROWS, 1, dtype=torch.long)
    search = Search(end=2, pad=1, max_length=12, min_length=6, mask=3, **how)
    kept, whole = (
        generate(
            model, programs, batch, start, search,
            frame=64, cached=cached, generator=torch.Generator().manual_seed(2),
        )
        for cached in (True, False)
    )  # fmt: skip
    assert torch.equal(kept, whole)
    assert kept.shape[1] > 5 and len({tuple(row) for row in kept.tolist()}) > 1


@pytest.mark.parametrize("mask", [None, 3])
@pytest.mark.parametrize("frame", ["null", "80"])
def test_relative_positions_go_on_with_the_words(mask: int | None, frame: str) -> None:
    relative = (f"components.backbone.positions={{use: relative, frame: {frame}}}",)
    blueprint = shrunk("beit3_base", "tasks/masked_captioning", overrides=relative)
    assert max(differences(blueprint, "caption", mask=mask)) < 1e-9


INPUTS = {
    "image": "{type: image, size: 16}",
    "caption": "{type: text, tokenizer: words, max_length: 14}",
    "question": "{type: text, tokenizer: words, max_length: 7}",
}
DECODER = "use: causal_decoder, heads: 2, mlp_width: 24"
COMPONENTS = {
    "vision": "{use: vit, width: 16, depth: 1, heads: 2, mlp_width: 24, patch: 8}",
    "flat": "{use: vit, width: 16, depth: 1, heads: 2, mlp_width: 24, patch: 8, cls: none}",
    "pool": "{use: attention_pooler, queries: 3, heads: 2}",
    "embed": f"{{{DECODER}, width: 16, depth: 0}}",
    "lower": f"{{{DECODER}, width: 16, depth: 1}}",
    "ended": f"{{{DECODER}, width: 16, depth: 1, cls: last}}",
    "reader": "{use: bert_encoder, width: 16, depth: 1, heads: 2, mlp_width: 24}",
    "body": f"{{{DECODER}, depth: 2}}",
    "second": f"{{{DECODER}, depth: 1}}",
    "looking": f"{{{DECODER}, depth: 1, cross_attention: true}}",
    "mix": "{use: projection, out: 16}",
    "head": "{use: lm_head}",
    "gpt": "{use: transformers, model: gpt2, options: {n_layer: 1, n_head: 2, n_embd: 16}}",
}


def joined(tmp_path: Path, **graph: str) -> CheckedBlueprint:
    """A blueprint with these entries of its graph, `logits` among them, and what they name."""
    graph = {"v": "vision(image)", **graph} if re.search(r"\bv\b", " ".join(graph.values())) else graph
    named = set(re.findall(r"\w+", " ".join(graph.values())))
    sections = {
        "inputs": {name: spec for name, spec in INPUTS.items() if name in named},
        "components": {"words": "{use: wordpiece, vocab_size: 60}"}
        | {name: spec for name, spec in COMPONENTS.items() if name in named},
        "graph": {name: f"'{expression}'" for name, expression in graph.items()},
        "losses": {"lm": "{use: next_token, logits: logits}"},
        "outputs": {"said": "{generate: logits, over: caption}"},
    }
    lines = ["name: joined"]
    for section, entries in sections.items():
        lines += [f"{section}:", *(f"  {name}: {value}" for name, value in entries.items())]
    file = tmp_path / "joined.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Blueprint.load(file).check()


FIXED = {
    "picture": "v",
    "patches": "v.tokens",
    "flat": "flat(image)",
    "pooled": "pool(v)",
    "asked": "ended(question)",
    "read": "reader(question)",
    "question": "lower(question)",
}
"""Parts that may stand before the words: with a CLS first, last or none, with padding and without."""
TEXTS = (
    "embed(caption)",
    "lower(caption)",
    "ended(caption)",
    "ended(caption).tokens",
    'lower(prompt("a picture of", caption))',
    'embed(begin(prompt("it is", caption), "[CLS]"))',
    "add([embed(caption), lower(caption)])",
    "average([lower(caption), mix(lower(caption))])",
    "mix(concat([embed(caption), lower(caption)]))",
    "embed(caption)",
)
BODIES = (
    "body(all)",
    "body(all.tokens)",
    "second(body(all))",
    "mix(body(all))",
    "body(mix(all))",
    "looking(body(all).language, context=body(all).{part})",
    "looking(all, context=v)",
    "looking(body(all), context=all.{part})",
    "second(join(again=body(all).{part}, language=body(all).language))",
    "add([body(all), second(all)])",
    "looking(body(all).language, context=v)",
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, str]:
    """A picture's and a question's parts, in any order, before a text, below one of many bodies."""
    parts = draw(st.lists(st.sampled_from(sorted(FIXED)), min_size=1, max_size=3, unique=True))
    text, body = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(BODIES))
    before = ", ".join(f"{name}={FIXED[name]}" for name in parts)
    last = body.format(part=draw(st.sampled_from(parts)))
    return {"all": f"join({before}, language={text})", "read": last, "logits": "head(read.language)"}


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(graphs(), st.sampled_from([1, 3]), st.sampled_from([None, 3]))
def test_parts_before_the_words_are_read_once_in_any_graph(
    tmp_path: Path, graph: dict[str, str], beams: int, mask: int | None
) -> None:
    blueprint = joined(tmp_path, **graph)
    assert max(differences(blueprint, "said", beams, mask)) < 1e-9, graph


@pytest.mark.parametrize("mask", [None, 3])
def test_a_library_s_tower_writes_behind_a_picture_too(tmp_path: Path, mask: int | None) -> None:
    whole = 'join(picture=v, language=gpt(prompt("a picture of", caption)))'
    blueprint = joined(tmp_path, all=whole, logits="head(body(all).language)")
    assert max(differences(blueprint, "said", beams=3, mask=mask)) < 1e-9


def test_after_the_first_words_a_join_is_the_new_word_alone(tmp_path: Path) -> None:
    blueprint = joined(tmp_path, all="join(picture=v, language=lower(caption))", logits="head(body(all))")
    programs = compile_incremental(blueprint, "said")
    first, later = programs.source.split("def advance")
    assert "join(picture=" in first and "join(language=" in later and "picture" not in later


REFUSED = {
    "join(language=lower(caption), picture=v)": "`join` puts `picture` behind `language`, which grows with every word",
    "join(left=lower(caption), picture=v, right=embed(question))":
        "`join` puts `picture`, `right` behind `left`, which grows with every word",
    "join(one=lower(caption), two=embed(caption))": "`join` puts `two` behind `one`, which grows with every word",
}  # fmt: skip


@pytest.mark.parametrize("expression", REFUSED)
def test_what_moves_when_the_text_grows_is_refused_and_named(tmp_path: Path, expression: str) -> None:
    first = expression.partition("(")[2].partition("=")[0]
    with pytest.raises(BlueprintError) as refused:
        joined(tmp_path, all=expression, logits=f"head(body(all).{first})")
    (problem,) = refused.value.problems
    assert problem.message == f"{REFUSED[expression]}, so nothing can be written through it word by word"
    assert problem.related


def test_what_puts_words_into_other_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlueprintError, match="`gathered` puts what is written into other rows"):
        joined(tmp_path, all="gathered(lower(caption))", logits="head(all)")


def test_words_are_read_at_a_mask_where_an_output_says_so() -> None:
    """A causal tower that was taught hidden words foretells a word in its own place."""
    overrides = [
        "+components.hide={use: mlm_masker}",
        "+graph.hidden=hide(caption)",
        "+graph.shown=logits(caption=hidden.text)",
        "+losses.mlm={use: masked_lm, logits: shown, labels: hidden.labels}",
        "stages.pretrain.losses=[lm, mlm]",
        "+outputs.at_mask={generate: logits, over: caption, by: mask}",
    ]
    asker = tiny("tiny/blip", overrides=overrides)
    picture = {"image": Image(torch.randn(2, 3, 16, 16))}
    with torch.no_grad():
        for parameter in asker.model.parameters():
            parameter.mul_(2.0 if parameter.dim() > 1 else 1.0)
    how = {"beams": 2, "max_length": 8, "min_length": 8}
    actual = asker.ids_of_batch("at_mask", picture, **how)
    assert torch.equal(actual, asker.ids_of_batch("at_mask", picture, cached=False, **how))
    assert not torch.equal(actual, asker.ids_of_batch("caption", picture, **how))


def test_a_mask_that_the_tokenizer_lacks_is_the_blueprint_s_mistake(small_coca: Callable[..., Blueprint]) -> None:
    with pytest.raises(BlueprintError, match="tokenizer `bpe` has none"):
        small_coca("outputs.caption.by=mask").check()
    named = small_coca("outputs.caption.by=mask", "components.bpe.mask='[MASK]'").check()
    assert named.outputs["caption"].settings.by == "mask"

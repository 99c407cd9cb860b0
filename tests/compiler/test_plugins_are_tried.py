"""A plugin is tried on a tiny copy before a program relies on what it promises."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.compiler import promises
from compose_vlp.compiler.accumulation import compile_pieces
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Step, build
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError
from compose_vlp.plugins import load_plugin
from compose_vlp.values import Image
from tests.compiler.sameness import NONE, assert_same, outcome

HEAD = """
from typing import Annotated
import torch
from torch import nn
from compose_vlp.registry import ALL, EACH, Settings, component, function, inferred, loss
from compose_vlp.values import Embedding, Logits, Record, Scalar, Sequence, Similarity, Text
"""
VECTORS = "x: Annotated[Embedding, 'rows width']) -> Annotated[Embedding, 'rows width']"


def module(name: str, promises: str, body: str, ports: str = VECTORS, made: str = "pass", more: str = "") -> str:
    """A file with a component whose forward has this body."""
    return f"""{HEAD}
@component("{name}", {promises})
class Part(nn.Module):
    class Config(Settings):
        width: int = inferred()
        sigma: float = 1.0
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        {made}
    def forward(self, {ports}:
        {body}
    {more}
"""


SMALL = (
    "inputs.image.size=16",
    "inputs.caption.max_length=12",
    "components.vision={patch: 8, stem: patch, stem_depth: 0, width: 32, mlp_width: 48}",
    "components.pool_many={queries: 5}",
    "components.unimodal={width: 32, depth: 1, mlp_width: 48}",
    "components.multimodal={depth: 1, mlp_width: 48}",
    "components.bpe={vocab_size: 300}",
)
OUT = ("components.image_proj.out=24", "components.text_proj.out=24")


def small(*overrides: str) -> Blueprint:
    written = {override.split("=")[0] for override in overrides}
    return Blueprint.load(
        "tiny/coca",
        overrides=[*SMALL, *(override for override in OUT if override.split("=")[0] not in written), *overrides],
    )


def twice(folder: Path, text: str, *overrides: str) -> Compiled:
    """The training program of a small CoCa whose two embeddings go through one component of the plugin, `part`."""
    file = folder / "part.py"
    file.write_text(text)
    (name, *_) = load_plugin(file).kinds
    graph = (
        "graph.image_embedding=normalize(part(image_proj(first(pool_one(visual)))))",
        "graph.text_embedding=normalize(part(text_proj(words.cls)))",
    )
    settings = ", ".join(
        [f"use: {name}", *(override.removeprefix("part.") for override in overrides if override.startswith("part."))]
    )
    changes = [override for override in overrides if not override.startswith("part.")]
    checked = small(f"+components.part={{{settings}}}", *(changes or graph)).check()
    return compile_stage(checked, "pretrain")


def blamed(folder: Path, text: str, *overrides: str) -> str:
    """What is said of a plugin that lies; its file and a line of it are the place."""
    with pytest.raises(UserError) as caught:
        twice(folder, text, *overrides)
    (problem,) = caught.value.problems
    assert problem.span is not None
    assert problem.span.file == str(folder / "part.py")
    assert text.splitlines()[problem.span.line - 1].strip().startswith(("@", "def forward", "class"))
    return problem.message


QUIET = 'rows="independent", state="none", draws="none"'

FALSE = [
    ("norm", QUIET, "return Embedding(self.norm(x.features))", "self.norm = nn.BatchNorm1d(config.width)", "rows:"),
    ("centre", QUIET, "return Embedding(x.features - x.features.mean(0))", "pass", "rows:"),
    ("noisy", QUIET, "return Embedding(x.features + torch.randn_like(x.features))", "pass", "draws:"),
    ("numpy", QUIET, "import numpy; return Embedding(x.features * numpy.random.rand())", "pass", "draws:"),
    ("own", QUIET, "return Embedding(x.features * torch.rand(1, generator=self.g))", "self.g = torch.Generator()",
     "state:"),
    ("buffer", QUIET, "self.n.add_(1); return x", "self.register_buffer('n', torch.zeros(1))", "state:"),
    ("python", QUIET, "self.n += 1; return Embedding(x.features * self.n)", "self.n = 0", "state:"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "promised", "body", "made", "broken"), FALSE, ids=[case[0] for case in FALSE])
def test_a_false_promise_is_an_error_that_names_everything(
    tmp_path: Path, name: str, promised: str, body: str, made: str, broken: str
) -> None:
    message = blamed(tmp_path, module(f"lies_{name}", promised, body, made=made))
    assert f"`part` (lies_{name}) breaks a promise of component 'lies_{name}': " in message
    assert broken in message
    assert "called for `" in message


@pytest.mark.parametrize("name", [case[0] for case in FALSE])
def test_who_promises_nothing_is_believed_nothing(tmp_path: Path, name: str) -> None:
    (case,) = (row for row in FALSE if row[0] == name)
    compiled = twice(tmp_path, module(f"says_nothing_{name}", "", case[2], made=case[3]))
    assert compiled.source.count(" m.part(") == 2


def test_an_honest_plugin_is_merged(tmp_path: Path) -> None:
    body = "return Embedding(self.map(x.features))"
    text = module("honest_map", QUIET, body, made="self.map = nn.Linear(config.width, config.width)")
    assert twice(tmp_path, text).source.count(" m.part(") == 1


def test_two_noisy_views_are_two(tmp_path: Path) -> None:
    body = "noise = torch.randn_like(x.features) if self.config.sigma else 0; return Embedding(x.features + noise)"
    views = (
        "+graph.one=part(text_proj(words.cls))",
        "+graph.two=part(text_proj(words.cls))",
        "graph.i2t=similarity(image_embedding, average([one, two]))",
        "graph.t2i=similarity(average([one, two]), image_embedding)",
    )
    declared = 'rows="batch", state="none", draws="noise", noise=("sigma",)'
    for name, promised, sigma, calls in (
        ("views_a", 'rows="batch", state="none", draws="noise"', 1, 2),
        ("views_b", 'rows="batch", state="none", draws="noise"', 0, 2),
        ("views_c", declared, 1, 2),
        ("views_d", declared, 0, 1),
    ):
        (tmp_path / name).mkdir()
        chosen = (*views, f"part.sigma: {sigma}")
        assert twice(tmp_path / name, module(name, promised, body), *chosen).source.count("m.part(") == calls


def test_a_setting_that_does_not_silence_the_noise_is_a_broken_promise(tmp_path: Path) -> None:
    body = "return Embedding(x.features + torch.randn_like(x.features))"
    text = module("loud", 'state="none", draws="noise", noise=("sigma",)', body)
    message = blamed(
        tmp_path, text, "graph.image_embedding=part(normalize(image_proj(first(pool_one(visual)))))",
        "part.sigma: 0",
    )  # fmt: skip
    assert "draws: a forward moves the generator of torch" in message


SEQUENCES = "x: Annotated[Sequence, 'rows tokens width', EACH]) -> Annotated[Sequence, 'rows tokens width']"
LOOKS = (
    "x: Annotated[Sequence, 'rows tokens width', EACH], context: Annotated[Sequence, 'rows m context_width', ALL]"
    " | None = None, *, kv=None, rows=None) -> Annotated[Sequence, 'rows tokens width']"
)


def test_keys_that_are_not_those_of_the_context_are_found(tmp_path: Path) -> None:
    text = module(
        "far_keys",
        f'{QUIET}, context="indexed"',
        "seen = kv if context is None else context.features.mean(1)\n"
        "        return x.with_features(x.features + seen.mean(1)[:, None, None])",
        ports=LOOKS,
        more="def keys_values(self, context): return context.features.mean(1)",
    )
    message = blamed(tmp_path, text, "graph.joint=multimodal(part(words.tokens, context=visual), context=visual)")
    assert "context: keys_values(context) with rows= gives other values" in message


def test_a_head_that_takes_other_places_is_found(tmp_path: Path) -> None:
    text = f"""{HEAD}
@component("far_places", {QUIET}, selects=True)
class Part(nn.Module):
    class Config(Settings):
        width: int = inferred()
        vocab_size: int = inferred("x.vocab_size")
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.map = nn.Linear(config.width, config.vocab_size)
    def forward(
        self, x: Annotated[Sequence, "rows tokens width", EACH], *, at: torch.Tensor | None = None
    ) -> Annotated[Logits, "rows tokens vocab_size"]:
        scores = self.map(x.features)
        return Logits(scores, x.parts[0].text) if at is None else Logits(scores.flatten(0, 1)[at.flip(0)], at=at)
"""
    message = blamed(tmp_path, text, "graph.logits=part(joint)")
    assert "selects: `at` gives other scores" in message


def test_a_function_that_mixes_rows_is_found(tmp_path: Path) -> None:
    text = (
        f"{HEAD}\n@function('centred')\ndef centred({VECTORS}:\n    return Embedding(x.features - x.features.mean(0))\n"
    )
    (tmp_path / "part.py").write_text(text)
    load_plugin(tmp_path / "part.py")
    checked = small("graph.text_embedding=normalize(centred(text_proj(words.cls)))").check()
    with pytest.raises(UserError, match="`centred` breaks a promise of function 'centred': rows") as caught:
        compile_stage(checked, "pretrain")
    assert caught.value.problems[0].span is not None


LOSSES = {
    "sum_loss": ('rows="independent"', "x.features.square().sum()", "rows: the loss of a batch is not the mean"),
    "spread": ('rows="independent"', "x.features.std(0).mean()", "rows: the loss of a batch is not the mean"),
    "random": ("", "x.features.square().mean() * torch.rand(())", "draws: "),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_mean_over_rows_is_found(tmp_path: Path, name: str) -> None:
    promised, body, broken = LOSSES[name]
    file = tmp_path / "part.py"
    file.write_text(f"""{HEAD}
@loss("{name}", {promised})
class Part(nn.Module):
    class Config(Settings):
        pass
    def __init__(self, config: Config) -> None:
        super().__init__()
    def forward(self, x: Annotated[Embedding, "rows width"]) -> Scalar:
        return Scalar({body})
""")
    load_plugin(file)
    checked = small(f"+losses.extra={{use: {name}, x: text_embedding}}", "stages.pretrain.losses=[extra]").check()
    with pytest.raises(UserError, match=rf"`extra` \({name}\) breaks a promise of loss '{name}'") as caught:
        compile_stage(checked, "pretrain")
    assert broken in str(caught.value)


WRONG = [
    ("plain", VECTORS, "return x.features", "gives a Tensor [3, 24] where an Embedding is annotated"),
    ("nothing", VECTORS, "pass", "gives nothing (None) where an Embedding is annotated"),
    ("wide", VECTORS, "return Embedding(torch.cat((x.features, x.features), 1))",
     "gives an Embedding with width 48, where 24 follows from its annotation"),
    ("flat", VECTORS, "return Embedding(x.features[0])", "gives an Embedding of shape [24], where [rows, width]"),
    ("other", VECTORS, "return Logits(x.features)", "gives a Logits where an Embedding is annotated"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ports", "body", "complaint"), WRONG, ids=[case[0] for case in WRONG])
def test_what_forward_gives_is_held_against_its_annotation(
    tmp_path: Path, name: str, ports: str, body: str, complaint: str
) -> None:
    """Also of one that promises nothing."""
    message = blamed(tmp_path, module(f"gives_{name}", "", body, ports=ports))
    assert f"`part` (gives_{name}) {complaint}" in message
    assert "called for `image_embedding.part`" in message


def test_a_sequence_whose_parts_do_not_fit_is_found(tmp_path: Path) -> None:
    text = module("shorter", "", "return x.with_features(x.features[:, 1:])", ports=SEQUENCES)
    message = blamed(tmp_path, text, "graph.visual=part(pool_many(vision(image)))")
    assert "gives a Sequence with tokens 4, where 5 follows" in message


# --- what cannot be tried


def test_nothing_is_relied_on_where_no_copy_can_be_tried(tmp_path: Path) -> None:
    body = "assert len(x.features) > 3, 'only large batches'; return x"
    compiled = twice(tmp_path, module("picky", QUIET, body))
    assert compiled.source.count(" m.part(") == 2
    notes = {done.name: done.note for done in compiled.passes}
    for name in ("dedupe", "batch"):
        assert (
            "nothing is relied on of part: a tiny copy of it could not be tried (AssertionError: only large"
            in notes[name]
        )
    kind = compiled.kinds["text_embedding.part"]
    assert (kind.traits.rows, kind.traits.state, kind.traits.draws) == ("batch", "effect", "noise")


def test_pieces_of_a_batch_mix_what_could_not_be_tried(tmp_path: Path) -> None:
    body = "assert len(x.features) > 3, 'only large batches'; return x"
    text = module("picky_rows", QUIET, body)
    (tmp_path / "part.py").write_text(text)
    load_plugin(tmp_path / "part.py")
    checked = small(
        "+components.part={use: picky_rows}",
        "graph.text_embedding=normalize(part(text_proj(words.cls)))",
        "+losses.extra={use: cross_entropy, logits: classes, labels: ids}",
        "+inputs.ids={type: label, classes: [a, b]}",
        "+components.class_head={use: linear_head, classes: 2}",
        "+graph.classes=class_head(text_embedding)",
        "stages.pretrain.losses=[extra]",
    ).check()
    pieces = compile_pieces(checked, "pretrain")
    assert pieces.terms == {}, "no loss is computed piece by piece behind a component that may mix rows"
    assert "m.part(" in pieces.source.split("def pretrain_mixing")[1]


def test_a_large_component_is_tried_on_a_smaller_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "SMALL", 100)
    monkeypatch.setattr(promises, "LARGEST", 1000)
    body = "assert self.map.weight.numel() < 2000; return Embedding(self.map(x.features))"
    made = "self.map = nn.Linear(config.width, config.width)"
    wide = ("components.image_proj.out=96", "components.text_proj.out=96")
    graph = ("graph.text_embedding=normalize(part(part(text_proj(words.cls))))",)
    compiled = twice(tmp_path, module("large_map", QUIET, body, made=made), *wide, *graph)
    assert not any("relied on" in done.note for done in compiled.passes)
    (tmp_path / "b").mkdir()
    square = "self.map = nn.Linear(config.width, 96)"
    compiled = twice(tmp_path / "b", module("stiff_map", QUIET, body, made=square), *wide, *graph)
    assert any("nothing is relied on of part" in done.note for done in compiled.passes)


def test_trying_disturbs_no_generator_and_is_done_once(tmp_path: Path) -> None:
    body = "Part.calls += 1; return Embedding(x.features + torch.rand(1) * torch.rand_like(x.features))"
    text = module("counts_calls", 'rows="independent", state="none", draws="noise"', body) + "    calls = 0\n"
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # type: ignore[union-attr]  # noqa: NPY002
    with torch.no_grad():
        twice(tmp_path, text)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[union-attr]  # noqa: NPY002
    part = registry.get("counts_calls").implementation
    calls = part.calls
    assert calls > 1
    twice(tmp_path, text)
    assert part.calls == calls


def test_a_merged_plugin_gives_the_numbers_of_a_plugin_that_is_not(tmp_path: Path) -> None:
    made = "self.map = nn.Linear(config.width, config.width)"
    file = tmp_path / "part.py"
    file.write_text(module("merged_map", QUIET, "return Embedding(self.map(x.features).tanh())", made=made))
    load_plugin(file)
    checked = small(
        "+components.part={use: merged_map}",
        "graph.image_embedding=normalize(part(image_proj(first(pool_one(visual)))))",
        "graph.text_embedding=normalize(part(text_proj(words.cls)))",
    ).check()
    model = build(checked, seed=1).double()
    compiled = compile_stage(checked, "pretrain")
    batch = synthetic_batch(compiled.plan, 3, "cpu")
    batch["image"] = Image(batch["image"].pixels.double())
    step = Step(checked.constants_and_starts())
    plain = outcome(model, compile_stage(checked, "pretrain", without=NONE), batch, step)
    assert_same(outcome(model, compiled, batch, step), plain, "merged")

"""Every hybrid of the repository and some of our own: built, trained, resumed bit for bit, evaluated and asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.document import Document
from compose_vlp.evaluation.results import evaluate, possible_tasks
from compose_vlp.run import Run
from compose_vlp.runtime.sources import stage_sources
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.models import TOWERS
from tests.runtime.test_training import Watch
from tests.support import spawn

COCA = (
    "inputs.image.size=16", "components.vision.patch=8",
    "components.vision.stem=patch", "components.vision.stem_depth=0",
    "components.vision.width=32", "components.unimodal.width=32",
    "components.*.mlp_width=48",
    "components.pool_many.queries=5", "components.image_proj.out=24", "components.text_proj.out=24",
    "components.bpe.vocab_size=300",
)  # fmt: skip
TASKS_OF = {
    "albef": ("entailment", "grounding", "nlvr2", "retrieval", "text_assignment", "vqa_classify", "vqa_generate"),
    "blip": ("captioning", "entailment", "nlvr2", "retrieval", "text_assignment", "vqa_classify", "vqa_generate"),
    "coca": ("captioning", "entailment", "vqa_classify", "vqa_generate"),
}
LIBRARY = [
    *((f"tiny/{paper}",) for paper in TASKS_OF),
    *((f"tiny/{paper}", f"tiny/tasks/{task}") for paper, tasks in TASKS_OF.items() for task in tasks),
    ("tiny/coca", "hybrids/coca_momentum"),
]
VISION = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.width=32",
    "components.vision.heads=4",
)
MULTIWAY = (
    "inputs.image.size=16", "components.patches_of.patch=8", "components.patches_of.width=32",
    "components.words_of.width=32", "components.*.heads=4", "components.*.mlp_width=48", "components.*.depth=1",
)  # fmt: skip
WORDS = "+components.learned={use: wordpiece, vocab_size: 300}"
PAIRS = "data.pairs={use: scenes, count: 12, size: 16}"
TEXTS = "data.texts={use: scenes, count: 12, size: 16}"
CLIP = (
    *VISION,
    "components.text.width=32",
    "components.text.depth=1",
    "components.text.heads=4",
    "components.vision.depth=1",
    "components.*.mlp_width=48",
    WORDS,
    "inputs.caption.tokenizer=learned",
    "~components.clip",
    "precision=fp32",
    PAIRS,
    "inputs.image.augment={}",
)
OTHERS = {
    ("tiny/albef", "hybrids/albef_multiway"): (
        "inputs.image.size=16",
        "components.vision.patch=8",
        "components.vision.stem=patch",
        "components.vision.stem_depth=0",
        "components.vision.width=32",
        "components.words_of.width=32",
        "components.backbone.depth=1",
        "components.backbone.heads=4",
        "components.*.mlp_width=48",
        "components.image_proj.out=24",
        "components.text_proj.out=24",
        "components.bert.vocab_size=320",
        "components.memory.size=8",
        PAIRS,
    ),
    ("tiny/blip", "hybrids/blip_pooled"): (
        *TOWERS,
        "components.memory.size=8",
        "components.pool.queries=3",
        "components.pool.heads=4",
        PAIRS,
    ),
    ("tiny/albef", "hybrids/albef_convnext_roberta"): (
        "inputs.image.size=32",
        "components.vision.model=test_convnext",
        "components.text.options={num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 4}",
        "components.fusion.mlp_width=48",
        "components.image_proj.out=24",
        "components.text_proj.out=24",
        "components.bert.vocab_size=320",
        "components.memory.size=8",
        "data.pairs={use: scenes, count: 12, size: 32}",
    ),
    ("hybrids/vlmo_captioner",): (
        *MULTIWAY,
        "components.decoder.width=32",
        "components.bert.vocab_size=320",
        TEXTS,
        PAIRS,
        "inputs.image.augment={}",
    ),
    ("hybrids/beit3_contrast",): (
        *MULTIWAY,
        WORDS,
        "inputs.caption.tokenizer=learned",
        "~components.spm",
        "components.memory.size=8",
        "components.code_patches.width=32",
        "components.code_patches.patch=8",
        "components.hide.patch=8",
        "components.hide_pair.patch=8",
        "components.codebook.size=16",
        "components.code_head.classes=16",
        "components.codebook.code_width=8",
        "inputs.image.augment={}",
        "~start",
        "~freeze",
        PAIRS,
        TEXTS,
        "data.pictures={use: scenes, count: 12, size: 16}",
        "inputs.lone_text.from=caption",
        "stages.pretrain.losses=[texts, pair_texts, itc, itm]",  # codes come from a file
        "stages.pretrain.data={main: pairs, texts: texts}",
    ),
    ("clip",): CLIP,
    ("siglip",): (
        *VISION,
        "components.vision.depth=1",
        "components.pool.heads=4",
        "components.words_of.width=32",
        "components.text.depth=1",
        "components.text.heads=4",
        "components.text_proj.out=32",
        "components.words.vocab_size=300",
        "components.*.mlp_width=48",
        "precision=fp32",
        PAIRS,
    ),
    ("lit",): CLIP,
}
"""Hybrids and papers whose smallest size is said one by one."""
SCENES = """\
data: {pairs: {use: scenes, count: 12, size: 16}}
stages: {one: {data: pairs, length: 2 steps, batch: 4, losses: [LOSSES]}}
"""
OWN = {
    "two towers of other patches side by side": """\
extends: tiny/coca
components:
  fine: {use: vit, width: 48, heads: 4, depth: 1, patch: 4}
  pool_fine: {use: attention_pooler, queries: 5, heads: 4}
  narrow: {use: projection, out: 32}
graph: {visual: 'narrow(concat([previous, pool_fine(fine(image))]))'}
""",
    "three contexts that are merged": """\
extends: tiny/albef
drop: [losses.mlm, losses.itc, losses.itm]
components:
  three: {use: cross_attention_fuser, depth: 1, heads: 2, pairing: merge}
  judge: {use: linear_head, classes: 2}
  fine: {use: vit, width: 32, heads: 4, depth: 1, patch: 4}
inputs: {answer: {type: label, from: pair_right}}
graph: {verdict: 'judge(three(t, context=[v, fine(image), v.tokens]).cls)'}
losses: {verdict: {use: cross_entropy, logits: verdict, labels: answer, weight: {linear: [0, 1], over: 1 epoch}}}
outputs: {verdict: softmax(verdict)}
""",
    "an ensemble of teachers": """\
extends: tiny/coca
teachers: {slow: {decay: 0.99}, quick: {decay: {linear: [0.5, 0.9]}}}
graph:
  i2t_s: slow.i2t
  i2t_q: quick.i2t
  t2i_s: slow.t2i
  t2i_q: quick.t2i
  i2t_m: average([i2t_s, i2t_q])
  t2i_m: average([t2i_s, t2i_q])
losses: {contrastive: {soft: [i2t_m, t2i_m], alpha: {linear: [0, 0.4], over: 1 epoch}}}
""",
    "texts of T5, pictures of a convolutional net": """\
extends: tiny/coca
drop: [losses.captioning, outputs.caption]
components:
  convolutions: {use: timm, model: resnet18}
  words_of: {use: transformers, model: t5, options: {d_model: 32, d_kv: 8, d_ff: 32, num_layers: 3, num_heads: 2}}
graph:
  image_embedding: normalize(image_proj(mean(convolutions(image))))
  text_embedding: normalize(text_proj(mean(words_of(caption))))
""",
    "a queue of the whole batch whose ids are told": """\
extends: tiny/albef
drop: [losses.mlm]
inputs: {scene: {type: id, from: id}}
graph:
  keys: memory(image=gathered(momentum.image_embedding), text=gathered(momentum.text_embedding))
  wrong_image: matched(v=gathered(v)[neg.image])
  wrong_text: matched(t=gathered(t)[neg.text])
  neg: hard(i2t, t2i, same=scene)
losses: {itc: {same: scene}}
""",
    "an embedding added to, and an entry that nothing reads": """\
extends: tiny/albef
drop: [losses.mlm, losses.itm, outputs.match]
components: {finer: {use: vit, width: 32, heads: 4, depth: 1, patch: 8}}
graph: {v: 'add([previous, finer(image)])', joint: 'fusion(t, context=[v, v])'}
""",
    "two pictures judged together": """\
extends: tiny/albef
drop: ["losses.*", "outputs.*"]
inputs:
  left: {type: image, like: image, from: left}
  right: {type: image, like: image, from: right}
  answer: {type: label, from: pair_right}
components: {judge: {use: linear_head, classes: 2}, other: {use: linear_head, classes: 2}}
graph:
  a: vision(left)
  b: vision(right)
  verdict: average([judge(concat([mean(a), mean(b)])), other(join(left=a, right=b, text=t).cls)])
losses: {verdict: {use: cross_entropy, logits: verdict, labels: answer}}
outputs: {verdict: softmax(verdict)}
""",
}
LOSSES = {
    "three contexts that are merged": "verdict",
    "texts of T5, pictures of a convolutional net": "contrastive",
    "a queue of the whole batch whose ids are told": "itc, itm",
    "an embedding added to, and an entry that nothing reads": "itc",
    "two pictures judged together": "verdict",
}
SHARED = ("two towers of other patches side by side", "a queue of the whole batch whose ids are told")
"""Those that are trained on two processes too."""


def small(names: Sequence[str]) -> Blueprint:
    """A blueprint at the smallest size at which it is one."""
    chosen = OTHERS.get(tuple(names), ())
    document = Blueprint.load(*names, overrides=chosen).document
    if chosen:
        return Blueprint.load(*names, overrides=[*chosen, *steps(document)])
    expected = COCA if "bpe" in document.names else (*TOWERS, "components.memory.size=8")
    sizes = [size for size in expected if size.split(".")[1] == "*" or document.at(*size.split("=")[0].split(".")[:2])]
    data = [f"data.{name}.{line}" for name in document.section("data").names for line in ("count=12", "size=16")]
    return Blueprint.load(*names, overrides=[*sizes, *steps(document), *data])


def steps(document: Document) -> list[str]:
    """Two steps of four records in each stage."""
    return [f"stages.{stage}.{line}" for stage in document.stages.names for line in ("length=2 steps", "batch=4")]


def own(name: str, folder: Path) -> Blueprint:
    text = OWN[name] + SCENES.replace("LOSSES", LOSSES.get(name, "contrastive, captioning"))
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    return small([str(folder / "own.yaml")])


def run_through(blueprint: Blueprint, folder: Path, *, twice: bool) -> None:
    """Build, train, stop and go on, ask; `twice`: train without a stop too, which comes to the same bits."""
    report = blueprint.report(batch=4)
    assert report.parameters["trainable"] > 0
    assert all("width" not in value["shape"] for value in report.values.values())
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=1)
    before, after, whole = Watch(0), Watch(), Watch()
    with pytest.raises(KeyboardInterrupt):
        blueprint.train(out=folder / "cut", options=options, track=False, listener=before)
    resumed = blueprint.train(out=folder / "cut", options=options, track=False, listener=after, resume=True)
    assert [*before.totals, *after.totals][-1] == 1
    if twice:
        other = blueprint.train(out=folder / "whole", options=options, track=False, listener=whole)
        assert {**before.totals, **after.totals} == whole.totals
        for name, tensor in other.asker.model.state_dict().items():
            assert torch.equal(tensor, resumed.asker.model.state_dict()[name]), name
    ask(resumed, blueprint)


def ask(run: Run, blueprint: Blueprint) -> None:
    """Every output of two records, and every task that they allow."""
    checked = blueprint.check()
    (source, *_) = stage_sources(checked, next(iter(checked.stages))).values()
    records = [source.record(number) for number in range(2)]
    for name, output in run.outputs.items():
        fields = run.asker.fields_read(name)
        answers = output(**{field: [record[field] for record in records] for field in fields})
        assert len(answers) == 2 or not fields
    tasks = possible_tasks(run.asker, source)
    if tasks:
        evaluate(run.asker, source, tasks, 4)


@pytest.mark.parametrize("names", [*LIBRARY, *OTHERS], ids="+".join)
def test_what_the_repository_offers_runs_through(names: tuple[str, ...], tmp_path: Path) -> None:
    run_through(small(names), tmp_path, twice=False)


@pytest.mark.parametrize("name", OWN)
def test_hybrids_of_many_sorts_run_through(name: str, tmp_path: Path) -> None:
    run_through(own(name, tmp_path), tmp_path, twice=True)


def trained(rank: int, folder: Path) -> list[dict[int, float]]:
    """What each of these hybrids loses at its steps."""
    actual = []
    for number, name in enumerate(SHARED):
        watch = Watch()
        (folder / f"{number}-{rank}").mkdir()
        blueprint = own(name, folder / f"{number}-{rank}")
        options = TrainOptions(seed=1, device="cpu")
        blueprint.train(out=folder / f"run{number}", options=options, track=False, listener=watch)
        actual.append(watch.totals)
    momentum = Watch()
    options = TrainOptions(seed=1, device="cpu")
    small(["tiny/coca", "hybrids/coca_momentum"]).train(
        out=folder / "momentum", options=options, track=False, listener=momentum
    )
    return [*actual, momentum.totals]


def test_hybrids_train_on_two_processes(tmp_path: Path) -> None:
    first, _ = spawn(trained, tmp_path, joined=False)
    assert [list(totals) for totals in first] == [[0, 1]] * len(first)

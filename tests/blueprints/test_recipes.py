"""Every paper's blueprint trains as its header's sources say: decay, moments, rates, warm-up, sizes, augmentation.

Sources are the authors' code and configurations: ALBEF at b9727e4, BLIP at 056a169, open_clip at release 3.3,
VLMo and BEiT-3 in microsoft/unilm at 768a3c8, and the papers (CoCa has no code, nor has BEiT-3's pretraining).
What they do once an epoch is done here at every step, as the headers say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.components.maskers.patch_masker import hidden_patches
from compose_vlp.runtime.optimizer import make_optimizer, parameter_paths
from compose_vlp.runtime.stage import Scale, Values, optimizer_of, plan_stage

RECORDS = 20_000_000
"""Enough for a step of the largest batch, and for a warm-up to end within an epoch."""


@dataclass(frozen=True)
class Recipe:
    """Expected values; `warmup` in steps, `length` in its unit, `constant` the names of what does not decay."""

    form: str
    peak: float
    end: float
    batch: int
    length: str
    warmup: float = 0
    warmup_from: float = 0.0
    decay: float = 0.0
    constant: str = "nothing"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = None
    precision: str = "fp32"
    size: int = 224
    code_size: int | None = None  # of pictures of which codes are made, where it is another
    crop: tuple[float, float] | None = None
    flip: float = 0.0
    jitter: float = 0.0
    randaugment: tuple[int, float] | None = None
    alpha: tuple[float, float, str] | None = None
    head: float = 1.0  # what the rate of `judge` is multiplied with
    layer_decay: float = 1.0
    frozen: tuple[str, ...] = ()


# optim/optim_factory.py: none of `len(param.shape) == 1`, `name.endswith(".bias")`; Pretrain.py: AdamW's own betas and
# eps, no clipping, no autocast; dataset/__init__.py: RandomResizedCrop, RandomHorizontalFlip, RandomAugment(2, 7).
ALBEF = Recipe(
    "cosine", 1e-4, 1e-5, 512, "30 epochs", 2000, 1e-5, 0.02, "biases and norms", size=256, crop=(0.2, 1), flip=0.5,
    randaugment=(2, 7), alpha=(0, 0.4, "1 epoch"),
)  # fmt: skip  # configs/Pretrain.yaml
# configs/Retrieval_coco.yaml; min_lr 1e-6, one unit of 100 iterations of warm-up from 1e-5, crops of (0.5, 1)
ALBEF_RETRIEVAL = replace(ALBEF, peak=1e-5, end=1e-6, batch=256, length="5 epochs", warmup=100, size=384, crop=(0.5, 1))
# pretrain.py: AdamW over model.parameters(), weight decay 0.05; paper 4.1 (0.85 an epoch); configs/pretrain.yaml;
# data/__init__.py: crops of (0.2, 1), RandomAugment(2, 5)
BLIP = Recipe(
    "exponential", 3e-4, 3e-4 * 0.85**20, 2880, "20 epochs", 3000, 1e-6, 0.05, crop=(0.2, 1), flip=0.5,
    randaugment=(2, 5), alpha=(0, 0.4, "2 epochs"),
)  # fmt: skip
# train_retrieval.py: cosine_lr_schedule to min_lr 0, no warm-up
BLIP_FINE = replace(
    BLIP, form="cosine", end=0.0, warmup=0, warmup_from=0.0, size=384, crop=(0.5, 1), batch=256, alpha=None
)
# paper 4.1: 500k steps, warm-up 2 %, linear; decay of everything and eps are this project's choice, as the header says
COCA = Recipe("linear", 8e-4, 0.0, 65536, "500000 steps", 10_000, decay=0.01, precision="bf16", size=288)
# open_clip_train/params.py, main.py (p.ndim < 2, or bn, ln, bias, logit_scale in the name), transform.py
OPEN_CLIP = Recipe(
    "cosine", 5e-4, 0.0, 90112, "13000000000 samples", 10_000, decay=0.2, constant="fewer than two dimensions",
    betas=(0.9, 0.98), eps=1e-6, precision="bf16", crop=(0.9, 1),
)  # fmt: skip
# vlmo/config.py: `task_mlm_itm_itc_base`, `step200k`; modules/vlmo_utils.py, set_schedule: none of names with `bias`,
# or of norms called norm1, norm or LayerNorm
VLMO = Recipe(
    "linear", 2e-4, 0.0, 1024, "200000 steps", 2500, decay=0.01, constant="biases and VLMo's shared norms",
    betas=(0.9, 0.98), crop=(0.5, 1), flip=0.5, randaugment=(2, 7),
)  # fmt: skip
# beit2/run_vqkd_training.py, TOKENIZER.md, optim_factory.py (`param.ndim <= 1`), no_weight_decay of modeling_vqkd.py
VQKD = Recipe(
    "cosine", 2e-4, 1e-5, 512, "100 epochs", 10 * (RECORDS // 512), decay=1e-4, constant="vectors and positions",
    betas=(0.9, 0.99), crop=(0.08, 1), flip=0.5, frozen=("teacher", "teacher_map"),
)  # fmt: skip
TOKENIZER = ("code_patches", "code_tower", "codebook")
# paper, Table 11
BEIT3 = Recipe(
    "cosine", 1e-3, 0.0, 2048, "1000000 steps", 10_000, decay=0.05, constant="vectors and the picture's positions",
    betas=(0.9, 0.98), eps=1e-6, clip=3.0, crop=(0.2, 1), flip=0.5, jitter=0.4, frozen=TOKENIZER,
)  # fmt: skip
# run_beit3_finetuning.py, optim_factory.py, datasets.py; no decay: modeling_utils.py, no_weight_decay
BEIT3_FINE = replace(BEIT3, end=1e-6, betas=(0.9, 0.999), eps=1e-8, clip=None, crop=(0.5, 1), jitter=0.0, frozen=())

# CLIP 2.5 and appendix F; crops as open_clip has them; SigLIP 4 and LiT 4, warm-up and AdamW as the headers say
CLIP = replace(OPEN_CLIP, batch=32768, length="32 epochs", warmup=2000)
SIGLIP = Recipe(
    "cosine", 1e-3, 0.0, 32768, "9000000000 samples", 20_000, decay=1e-4, betas=(0.9, 0.95), clip=1.0, precision="bf16"
)
LIT = replace(
    CLIP, peak=1e-3, batch=16384, length="18 epochs", warmup=10_000, decay=1e-4, betas=(0.9, 0.999), clip=1.0,
    frozen=("vision",),
)  # fmt: skip

RECIPES = {
    ("clip",): CLIP,
    ("siglip",): SIGLIP,
    ("lit",): LIT,
    ("albef",): ALBEF,
    ("albef", "tasks/albef/retrieval"): ALBEF_RETRIEVAL,
    ("albef", "tasks/albef/grounding"): replace(ALBEF_RETRIEVAL, crop=None),  # configs/Grounding.yaml; resized pictures
    ("albef", "tasks/albef/entailment"): replace(ALBEF_RETRIEVAL, peak=2e-5, alpha=(0.4, 0.4, "")),  # configs/VE.yaml
    ("albef", "tasks/albef/vqa"): replace(
        ALBEF_RETRIEVAL, peak=2e-5, length="8 epochs", warmup=400
    ),  # configs/VQA.yaml
    ("albef", "tasks/albef/nlvr2"): replace(ALBEF_RETRIEVAL, peak=2e-5, batch=128, length="10 epochs"),  # NLVR.yaml
    ("blip",): BLIP,
    ("blip_large",): replace(BLIP, peak=2e-4, end=2e-4 * 0.85**20, batch=2400),  # paper 4.1
    ("blip", "tasks/blip/retrieval"): replace(BLIP_FINE, peak=1e-5, length="6 epochs", alpha=(0, 0.4, "1 epoch")),
    ("blip", "tasks/blip/captioning"): replace(BLIP_FINE, peak=1e-5, length="5 epochs"),  # configs/caption_coco.yaml
    ("blip", "tasks/blip/vqa"): replace(BLIP_FINE, peak=2e-5, length="10 epochs", size=480),  # configs/vqa.yaml
    ("blip", "tasks/blip/nlvr2"): replace(BLIP_FINE, peak=3e-5, length="15 epochs"),  # configs/nlvr.yaml
    ("coca",): COCA,
    ("coca_base",): COCA,
    ("coca_large",): COCA,
    ("coca_openclip_vit_b_32",): OPEN_CLIP,
    ("coca_openclip_vit_l_14",): OPEN_CLIP,
    ("vqkd_base",): VQKD,
    ("vlmo_base",): VLMO,
    ("vlmo_staged",): replace(VLMO, frozen=TOKENIZER),  # of its last stage
    ("vlmo_base_plus",): replace(VLMO, peak=1e-4),  # `task_mlm_itm_itc_base_plus`
    ("vlmo_large",): replace(VLMO, peak=5e-5),  # `task_mlm_itm_itc_large`
    ("vlmo_base", "tasks/vlmo/nlvr2"): replace(
        VLMO, peak=5e-5, batch=128, length="10 epochs", warmup=RECORDS // 128, size=384
    ),  # `task_finetune_nlvr2_base`
    ("vlmo_base", "tasks/vlmo/vqa"): replace(
        VLMO, peak=3e-5, batch=128, length="10 epochs", warmup=RECORDS // 128, size=480, head=20.0
    ),  # `task_finetune_vqa_base_image480`
    ("beit3_base",): BEIT3,
    ("beit3_large",): BEIT3,
    ("beit3",): replace(BEIT3, code_size=256),
    # get_started/*.md
    ("beit3_base", "tasks/beit3/retrieval"): replace(
        BEIT3_FINE, peak=2e-4, batch=3072, length="15 epochs", warmup=3 * (RECORDS // 3072), size=384, layer_decay=0.65
    ),
    ("beit3_base", "tasks/beit3/vqa"): replace(
        BEIT3_FINE,
        peak=3e-5,
        decay=0.01,
        betas=(0.9, 0.98),
        batch=128,
        length="10 epochs",
        warmup=RECORDS // 128,
        size=480,
        randaugment=(2, 7),
        head=20.0,
    ),
    ("beit3_base", "tasks/beit3/nlvr2"): replace(
        BEIT3_FINE, peak=7e-4, decay=0.2, batch=256, length="20 epochs", warmup=5 * (RECORDS // 256), layer_decay=0.65
    ),
    ("beit3_base", "tasks/beit3/captioning"): replace(
        BEIT3_FINE, peak=4e-5, batch=256, length="10 epochs", warmup=RECORDS // 256, size=480, randaugment=(2, 7)
    ),
    ("beit3_base", "tasks/beit3/classification"): replace(
        BEIT3_FINE,
        peak=7e-4,
        layer_decay=0.65,
        batch=1024,
        length="50 epochs",
        warmup=5 * (RECORDS // 1024),
        crop=(0.08, 1),
        randaugment=(2, 9),  # as the header says
    ),
}
GIANT = {  # the paper's appendix; what it has besides is the base recipe's
    "retrieval": {"peak": 1e-5, "size": 420, "layer_decay": 0.95},
    "vqa": {"peak": 1e-5, "size": 756},
    "nlvr2": {"peak": 1e-3, "layer_decay": 0.8},
    "captioning": {"peak": 8e-6, "size": 392, "length": "16000 steps", "warmup": 1600},
    "classification": {"size": 336},
}
RECIPES |= {
    ("beit3", f"tasks/beit3/giant/{task}"): replace(RECIPES["beit3_base", f"tasks/beit3/{task}"], **changes)
    for task, changes in GIANT.items()
}
CASES = pytest.mark.parametrize("names", RECIPES, ids=" ".join)
CONSTANT: dict[str, Callable[[str, torch.Tensor], bool]] = {
    "nothing": lambda path, _: False,
    # Of what has one dimension here, CLS vectors have three there and the temperature none.
    "biases and norms": lambda path, p: p.dim() == 1 and not path.endswith((".cls", ".temperature")),
    "fewer than two dimensions": lambda path, p: p.dim() < 2,
    "vectors and positions": lambda path, p: p.dim() < 2 or path.endswith(".positions"),
    "vectors and the picture's positions": lambda path, p: p.dim() < 2 or path == "patches_of.positions",
    "biases and VLMo's shared norms": lambda path, _: (
        "bias" in path
        or path.endswith((".self_attention.norm.weight", "transform.2.weight"))
        or path in ("upper.norm.weight", "words_of.norm.weight")
    ),
}


@cache
def trained(names: tuple[str, ...]) -> tuple[Any, Any, Scale, Values]:
    checked = Blueprint.load(*names).check()
    *_, stage = checked.stages
    plan = plan_stage(checked, stage)
    steps = Scale(RECORDS, plan.batch).in_steps(plan.length)
    scale = Scale(RECORDS, plan.batch, steps)
    return checked, plan, scale, Values(checked.params, scale)


PAPERS = {"vlmo": "vlmo_base", "beit3": "beit3_base"}
"""Of folders of recipes that are not called as the blueprint is."""


def test_every_paper_and_recipe_is_here(root: Any) -> None:
    folder = root / "blueprints"
    papers = {(path.stem,) for path in folder.glob("*.yaml")}
    recipes = {
        (PAPERS.get(path.parent.name, path.parent.name), f"tasks/{path.parent.name}/{path.stem}")
        for path in folder.glob("tasks/*/*.yaml")
    }
    giant = {("beit3", f"tasks/beit3/giant/{path.stem}") for path in folder.glob("tasks/beit3/giant/*.yaml")}
    assert papers | recipes | giant == set(RECIPES)


def beit3_scale(path: str, rate: float, depth: int, top: int) -> float:
    """optim_factory.py, get_num_layer_for_vit: embeddings 0, layer k at k + 1, everything else at the depth and 1.

    Layers of `top`, the giant's second stack, are counted from `top` on.
    """
    head, *rest = path.split(".")
    first = 1 + top * (head == "top")
    level = 0 if head in ("patches_of", "words_of") else int(rest[1]) + first if rest[0] == "layers" else depth + 1
    return rate ** (depth + 1 - level)


def test_the_first_stage_of_vlmo_is_beits() -> None:
    """beit/README.md (base on ImageNet-22k), run_beit_pretraining.py, optim_factory.py, datasets.py."""
    checked = Blueprint.load("vlmo_staged").check()
    plan = plan_stage(checked, "vision")
    scale = Scale(RECORDS, plan.batch, Scale(RECORDS, plan.batch).in_steps(plan.length))
    values = Values(checked.params, scale)
    parts = build(checked, "meta").parts()
    how, rate = optimizer_of(plan.optimizer, values, parts), values.rate(plan.optimizer.lr)
    assert (plan.batch, str(plan.length), set(plan.freeze)) == (2048, "150 epochs", set(TOKENIZER))
    assert (how.betas, how.eps, how.clip, how.weight_decay) == ((0.9, 0.98), 1e-8, 3.0, 0.05)
    assert (rate(9_999), rate(scale.steps)) == pytest.approx((1.5e-3, 1e-5))
    paths = parameter_paths(parts)
    for group in make_optimizer(paths, how).torch.param_groups:
        assert {p.dim() < 2 for p in group["params"]} == {group["weight_decay"] == 0}
    of_stage = checked.of_stage("vision")
    augment = of_stage.inputs["image"].augment
    assert (augment.crop, augment.flip, augment.jitter, augment.randaugment) == ((0.08, 1), 0.5, 0.4, None)
    hide = of_stage.components["hide"]
    assert hidden_patches(hide.config) == 75


@CASES
def test_what_decays_is_what_the_source_says(names: tuple[str, ...]) -> None:
    checked, plan, _, values = trained(names)
    recipe = RECIPES[names]
    parts = build(checked, "meta").parts()
    paths = parameter_paths(parts)
    how = optimizer_of(plan.optimizer, values, parts)
    optimizer = make_optimizer(paths, how)
    decays = {id(p): group["weight_decay"] for group in optimizer.torch.param_groups for p in group["params"]}
    assert set(decays) == {id(p) for p in paths.values()}, "everything is trained"
    for path, parameter in paths.items():
        constant = CONSTANT[recipe.constant](path, parameter)
        assert decays[id(parameter)] == (0 if constant else recipe.decay), path
    scales = {id(p): scale for group, (_, scale) in zip(optimizer.torch.param_groups, optimizer.rates, strict=True)
              for p in group["params"]}  # fmt: skip
    for path, parameter in paths.items():
        depths = (40, 37) if names[0] == "beit3" else (12, 12)
        expected = recipe.head if path.startswith("judge.") else beit3_scale(path, recipe.layer_decay, *depths)
        assert scales[id(parameter)] == pytest.approx(expected), path
    assert {rate for rate, _ in optimizer.rates} == {how.lr}
    assert (how.betas, how.eps, how.clip) == (recipe.betas, recipe.eps, recipe.clip)


@CASES
def test_rates_pass_through_the_sources_points(names: tuple[str, ...]) -> None:
    _, plan, scale, values = trained(names)
    recipe = RECIPES[names]
    rate = values.rate(plan.optimizer.lr)
    warmup, last = int(recipe.warmup), scale.steps
    if warmup:
        first = recipe.warmup_from + (recipe.peak - recipe.warmup_from) / warmup
        assert rate(0) == pytest.approx(first)
        half = recipe.warmup_from + (recipe.peak - recipe.warmup_from) * (warmup // 2) / warmup
        assert rate(warmup // 2 - 1) == pytest.approx(half)
        assert rate(warmup - 1) == pytest.approx(recipe.peak)
    assert rate(warmup) == pytest.approx(recipe.peak)
    for share in (0.25, 0.5, 0.75, 1.0):
        step = round(warmup + share * (last - warmup))
        shape = {
            "linear": recipe.peak + (recipe.end - recipe.peak) * share,
            "cosine": recipe.end + (recipe.peak - recipe.end) * (1 + math.cos(math.pi * share)) / 2,
            "exponential": recipe.peak * (recipe.end / recipe.peak) ** share if recipe.end else 0.0,
        }
        # steps are whole, and two of three digits stand in the blueprints
        assert rate(step) == pytest.approx(shape[recipe.form], rel=5e-3, abs=recipe.peak * 1e-3)


@CASES
def test_sizes_precision_and_augmentation_are_the_sources(names: tuple[str, ...]) -> None:
    checked, plan, scale, values = trained(names)
    recipe = RECIPES[names]
    assert (plan.batch, str(plan.length), plan.precision) == (recipe.batch, recipe.length, recipe.precision)
    assert plan.accumulate == 1 and set(plan.freeze) == set(recipe.frozen) and not plan.train
    pictures = [entry for entry in checked.inputs.values() if entry.type == "image"]
    assert pictures
    for picture in pictures:
        augment = picture.augment
        drawn = augment.randaugment if augment else None
        actual = (augment.crop, augment.flip, augment.jitter) if augment else (None, 0.0, 0.0)
        assert picture.size in (recipe.size, recipe.code_size) and picture.interpolation == "bicubic"
        assert actual == (recipe.crop, recipe.flip, recipe.jitter)
        assert (drawn and (drawn.count, drawn.level)) == recipe.randaugment
    if recipe.alpha is None:
        assert not any("alpha" in dict(checked.calls[loss.call].args) for loss in checked.losses.values())
        return
    start, end, over = recipe.alpha
    alpha = values.at(0)["alpha"], values.at(scale.steps)["alpha"]
    assert alpha == (start, end)
    if over:
        epochs = int(over.partition(" ")[0])
        ramp = epochs * scale.steps_per_epoch
        assert values.at(ramp)["alpha"] == end and values.at(ramp // 2)["alpha"] == pytest.approx(end / 2, rel=1e-3)


def test_beit3s_captions_are_hidden_and_learnt_as_its_code_does() -> None:
    """beit3/datasets.py, `_masking_on_text_tokens`; beit3/utils.py, `BertCaptioningLoss`."""
    checked, _, _, values = trained(("beit3_base", "tasks/beit3/captioning"))
    masker, lm = checked.components["written_masker"].config, checked.losses["lm"]
    assert (masker.probability, masker.mask, masker.random, masker.fixed, masker.end) == (0.7, 0.8, None, True, True)
    assert masker.random_from == 3 and lm.config.label_smoothing == 0.1
    (drop,) = (arg.name for name, arg in checked.calls[lm.call].args if name == "drop_worst")
    assert [values.at(step)[drop] for step in (0, 11_999, 12_000, 500_000)] == [0, 0, 0.2, 0.2]

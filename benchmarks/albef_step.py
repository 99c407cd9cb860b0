"""One pretraining step of ALBEF beside the order of calls of the authors' code (`models/model_pretrain.py`).

There the right pairs go through the fusion layers by themselves, wrong ones in a batch of twice the size whose pictures
are copied before they are projected, and masked words once more; every position gets scores over the vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.official_order import Paper, modules, run, together
from compose_vlp.compiler.program_runtime import take
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.values import Embedding, Logits

QUIET = [f"components.{name}.{noise}=0" for name in ("text", "fusion") for noise in ("dropout", "attention_dropout")]


def official(root: Any, batch: Mapping[str, Any], step: Any) -> dict[str, Any]:
    """The calls of the official forward, one after the other."""
    m, teacher, losses = modules(root)
    image, caption = batch["image"], batch["caption"]
    v, t = m.vision(image), m.text(caption)
    image_embedding, text_embedding = normalize(m.image_proj(v.cls)), normalize(m.text_proj(t.cls))
    with torch.no_grad():
        taught_v, taught_t = teacher.vision(image), teacher.text(caption)
        taught_image = normalize(teacher.image_proj(taught_v.cls))
        taught_text = normalize(teacher.text_proj(taught_t.cls))
        keys = m.memory(image=taught_image, text=taught_text)
        soft = [m.similarity(taught_image, keys.text), m.similarity(taught_text, keys.image)]
    scores = [m.similarity(image_embedding, keys.text), m.similarity(text_embedding, keys.image)]
    itc = losses.itc(scores, soft=soft, alpha=step.params["alpha"])

    right = m.fusion(t, v)
    neg = step.choice("neg", m.hard, *scores)
    wrong = m.fusion(together(t, take(t, neg.text)), together(take(v, neg.image), v))
    pairs = m.itm_head(Embedding(torch.cat((right.cls.features, wrong.cls.features))))
    matched, *negatives = (Logits(part) for part in pairs.scores.chunk(3))
    itm = losses.itm(matched, negatives)

    masked = step.choice("masked", m.masker, caption, tokenizer=root.tokenizers["bert"])
    with torch.no_grad():
        taught = teacher.mlm_head(teacher.fusion(teacher.text(masked.text), taught_v))
    predicted = m.mlm_head(m.fusion(m.text(masked.text), v))
    mlm = losses.mlm(predicted, masked.labels, soft=taught, alpha=step.params["alpha"])
    return {"itc": itc, "itm": itm, "mlm": mlm}


TOWERS = (("vision", 1), ("text", 2), ("fusion", 2))

PAPER = Paper("albef", "tiny/albef", official, tuple(QUIET), towers=TOWERS)

if __name__ == "__main__":
    sys.exit(run(PAPER))

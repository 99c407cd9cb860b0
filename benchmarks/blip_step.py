"""One pretraining step of BLIP beside the order of calls of the authors' code (`models/blip_pretrain.py`).

There the right pairs go through the grounded encoder by themselves, wrong ones in a batch of twice the size whose
pictures are copied before they are projected, and the decoder projects them once more, with the same weights; every
caption is padded to 30 tokens, and every position gets scores over the vocabulary.

With `--library` the opponent's towers are transformers' own (`blip_library.py`):

    transformers    its picture tower, text encoder and decoder in that order of calls, torch's default AdamW
    transformers+   the same with fused AdamW, the teacher in one sweep, and captions padded to the longest
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.blip_library import LibraryCandidate
from benchmarks.official_order import Paper, modules, run, together
from compose_vlp.compiler.program_runtime import stack, take
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.components.functions.words import begin
from compose_vlp.values import Embedding, Logits

QUIET = [f"components.{name}.{noise}=0" for name in ("text", "decoder") for noise in ("dropout", "attention_dropout")]


def official(root: Any, batch: Mapping[str, Any], step: Any) -> dict[str, Any]:
    """The calls of the official forward, one after the other."""
    m, teacher, losses = modules(root)
    image, caption, tokenizer = batch["image"], batch["caption"], root.tokenizers["bert"]
    v, t = m.vision(image), m.text(caption)
    image_embedding, text_embedding = normalize(m.image_proj(v.cls)), normalize(m.text_proj(t.cls))
    with torch.no_grad():
        taught_image = normalize(teacher.image_proj(teacher.vision(image).cls))
        taught_text = normalize(teacher.text_proj(teacher.text(caption).cls))
        keys = m.memory(image=taught_image, text=taught_text)
        soft = [m.similarity(taught_image, keys.text), m.similarity(taught_text, keys.image)]
    scores = [m.similarity(image_embedding, keys.text), m.similarity(text_embedding, keys.image)]
    itc = losses.itc(scores, soft=soft, alpha=step.params["alpha"])

    grounded = begin(caption, "[ENC]", tokenizer=tokenizer)
    right = m.text(grounded, v)
    neg = step.choice("neg", m.hard, *scores)
    wrong = m.text(stack(grounded, take(grounded, neg.text)), together(take(v, neg.image), v))
    pairs = m.itm_head(Embedding(torch.cat((right.cls.features, wrong.cls.features))))
    matched, *negatives = (Logits(part) for part in pairs.scores.chunk(3))
    itm = losses.itm(matched, negatives)

    written = m.lm_head(m.decoder(begin(caption, "[DEC]", tokenizer=tokenizer), v))
    return {"itc": itc, "itm": itm, "lm": losses.lm(written)}


SMALL = ("components.vision.stem=patch", "components.vision.stem_depth=0")  # the library has no other stem
PAPER = Paper("blip", "tiny/blip", official, tuple(QUIET), to_frame=True, small=SMALL, library=LibraryCandidate)

if __name__ == "__main__":
    sys.exit(run(PAPER))

"""One pretraining step of VLMo on pairs beside the order of calls of the authors' code (`vlmo_module.py`).

There right pairs are read by themselves, wrong ones in a batch of twice the size whose patches and words are embedded
anew, and masked words once more; every layer computes all positions, every word gets scores over the vocabulary, and
captions are padded to 40.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.official_order import Paper, run
from compose_vlp.compiler.program_runtime import stack, take
from compose_vlp.components.functions.join import join
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.values import Embedding, Image, Logits, Sequence, Text

QUIET = ("components.words_of.dropout=0", "components.lower.drop_path=0", "components.upper.drop_path=0")
SMALL = (
    *(f"components.{name}.width=32" for name in ("patches_of", "words_of")),
    *(f"components.{name}.heads=2" for name in ("lower", "upper")),
    *(f"components.{name}.out=32" for name in ("image_proj", "text_proj", "image_vl", "text_vl")),
    "components.lower.depth=2", "inputs.image.size=64",
)  # fmt: skip


def official(root: Any, batch: Mapping[str, Any], step: Any) -> dict[str, Any]:
    """The calls of the official forward, one after the other."""
    m, losses = root.student, root.losses_by_name
    image, caption = batch["image"], batch["caption"]

    def pair(image: Image, words: Text) -> Sequence:
        joined = join(language=m.words_of(words), vision=m.patches_of(image))
        read: Sequence = m.upper(m.lower(joined), expert="vision_language")
        return read

    v, t = m.lower(m.patches_of(image)), m.lower(m.words_of(caption))
    image_embedding, text_embedding = (
        normalize(m.image_proj(m.upper(v).cls)),
        normalize(m.text_proj(m.upper(t).cls)),
    )
    image_branch = normalize(m.image_vl(m.upper(v, expert="vision_language").cls))
    text_branch = normalize(m.text_vl(m.upper(t, expert="vision_language").cls))
    scores = [m.similarity(image_embedding, text_embedding), m.similarity(text_embedding, image_embedding)]
    scores_vl = [m.similarity_vl(image_branch, text_branch), m.similarity_vl(text_branch, image_branch)]

    right = m.pooler(pair(image, caption).cls)
    neg = step.choice("neg", m.hard, *scores)
    images = Image(torch.cat((take(image, neg.image).pixels, image.pixels)))
    wrong = m.pooler(pair(images, stack(caption, take(caption, neg.text))).cls)
    pairs = m.itm_head(Embedding(torch.cat((right.features, wrong.features))))
    matched, *negatives = (Logits(part) for part in pairs.scores.chunk(3))

    masked = step.choice("masked", m.masker, caption, tokenizer=root.tokenizers["bert"])
    predicted = m.mlm_head(pair(image, masked.text).part("language"))
    return {
        "itc": losses.itc(scores),
        "itc_vl": losses.itc_vl(scores_vl),
        "itm": losses.itm(matched, negatives),
        "mlm": losses.mlm(predicted, masked.labels),
    }


PAPER = Paper("vlmo_base", "vlmo_base", official, QUIET, to_frame=True, stage="pairs", small=SMALL)

if __name__ == "__main__":
    sys.exit(run(PAPER))

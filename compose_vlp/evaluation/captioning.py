"""Scores of captions against their references."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TOKENIZER = "lower-case words and digits"
"""How texts are cut for BLEU and CIDEr here. The papers' figures use the Penn Treebank tokenizer, which needs Java."""


@dataclass(frozen=True)
class CaptionScores:
    """Corpus BLEU-1 to 4 (Papineni et al. 2002) and CIDEr-D (Vedantam et al. 2015; 10 is its top), and how many of
    the captions differ from one another (a model that always says the same has 1 / captions)."""

    bleu: tuple[float, float, float, float]
    cider: float
    distinct: float
    captions: int
    tokenizer: str = TOKENIZER

    def flat(self) -> dict[str, float]:
        """One name for each number, as trackers and scripts want them."""
        bleu = {f"bleu_{n}": value for n, value in enumerate(self.bleu, 1)}
        return {**bleu, "cider": self.cider, "distinct_captions": self.distinct}


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Scores of one caption a picture against its references."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    said = {i: [_cut(text)] for i, text in enumerate(captions)}
    wanted = {i: [_cut(text) for text in texts] for i, texts in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    cider, _ = Cider().compute_score(wanted, said)
    distinct = len({texts[0] for texts in said.values()}) / max(len(said), 1)
    one, two, three, four = (float(value) for value in bleu)
    return CaptionScores((one, two, three, four), float(cider), distinct, len(captions))


def _cut(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower())) or "."

"""Recall of pictures by texts and of texts by pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Recall:
    """Shares in [0, 1] of queries with a right answer among the first 1, 5, 10; `chance` is recall@1 of a blind guess.

    `image_to_text` asks with pictures (TR in the papers), `text_to_image` with texts (IR).
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    images: int
    texts: int
    chance: float

    def flat(self) -> dict[str, float]:
        """One name for each number, as trackers and scripts want them."""
        sides = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        return {f"{side}_recall_at_{rank}": value for side, ranks in sides.items() for rank, value in ranks.items()}


def recall(scores: Tensor, image_keys: Sequence[object], text_keys: Sequence[object]) -> Recall:
    """Recall from `scores` [images, texts]; a text is right for a picture where their keys are equal.

    Ties go against the model: of equal scores the wrong ones count as first, so that a constant score has no recall.
    """
    numbers = {key: number for number, key in enumerate(dict.fromkeys((*image_keys, *text_keys)))}
    images = torch.tensor([numbers[key] for key in image_keys])
    texts = torch.tensor([numbers[key] for key in text_keys])
    right = images[:, None] == texts[None, :]
    scores = scores.cpu().double()
    return Recall(
        image_to_text=_recalls(scores, right),
        text_to_image=_recalls(scores.T, right.T),
        images=len(images),
        texts=len(texts),
        chance=float(right.double().mean()),
    )


def _recalls(scores: Tensor, right: Tensor) -> dict[int, float]:
    best_right = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    better = ((scores >= best_right) & ~right).sum(1)
    answerable = right.any(1)
    return {k: float(((better < k) & answerable).double().sum() / answerable.sum().clamp_min(1)) for k in RANKS}

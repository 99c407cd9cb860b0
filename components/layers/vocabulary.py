"""Scores over the vocabulary: what the language heads have in common."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.attention import Linear
from compose_vlp.components.layers.on_text import text_features
from compose_vlp.values import Logits, Sequence
from compose_vlp.values.unscored import UnscoredLogits

HEAD_PARTS: Final[Mapping[str, str]] = {"weight": "weight", "bias": "bias", "transform": "transform"}
STD: Final = 0.02


class VocabularyHead(nn.Module):
    """`[..., width]` to `[..., vocab_size]`: features times a table of words, `weight`.

    With `norm_eps` the features go through a dense layer, GELU and LayerNorm first (Devlin et al. 2019).
    """

    def __init__(self, width: int, vocab_size: int, *, bias: bool, norm_eps: float | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width))
        nn.init.normal_(self.weight, std=STD)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        self.transform = (
            None
            if norm_eps is None
            else nn.Sequential(Linear(width, width, std=STD), nn.GELU(), nn.LayerNorm(width, eps=norm_eps))
        )

    def score(self, x: Sequence, at: Tensor | None, scored: bool) -> Logits:
        """Scores at the words of the text that `x` stands on, or at these places `[chosen]` of them all.

        Where they are not to be `scored` yet, what they are the product of.
        """
        features, text = text_features(x)
        chosen = features if at is None else features.flatten(0, 1)[at]
        if self.transform is not None:
            chosen = self.transform(chosen)
        if not scored:
            return UnscoredLogits(chosen, self.weight, self.bias, text, at)
        return Logits(F.linear(chosen, self.weight, self.bias), text, at)

"""Logits of which the last product is still to be made, so that a loss can make it in chunks."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from compose_vlp.values.values import Logits, Text


class UnscoredLogits(Logits):
    """Logits at chosen positions whose scores nobody has made yet: `features` times `weight`, and a bias.

    Who reads `scores` gets them all, made then; a loss may take its rows in chunks instead.

    Args:
        features: `[chosen, width]`.
        weight: `[classes, width]`.
        bias: `[classes]`, None where classes have none.
        text: the text on which the positions stand.
        at: `[chosen]`, their places in the flattened `[batch * positions]`.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, features: Tensor, weight: Tensor, bias: Tensor | None, text: Text | None, at: Tensor | None
    ) -> None:
        vars(self).update(features=features, weight=weight, bias=bias, text=text, at=at)  # frozen, like all values

    @cached_property
    def scores(self) -> Tensor:  # a field of its base, here made when it is read
        """Scores `[chosen, classes]`."""
        return F.linear(self.features, self.weight, self.bias)

    @property
    def classes(self) -> int:
        """Count the classes that there will be scores of."""
        return len(self.weight)


pytree.register_pytree_node(
    UnscoredLogits,
    lambda logits: ([logits.features, logits.weight, logits.bias, logits.text, logits.at], None),
    lambda leaves, _: UnscoredLogits(*leaves),
    serialized_type_name="compose_vlp.values.UnscoredLogits",
)

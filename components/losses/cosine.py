"""Features are to point where those of a tower that is not trained point."""

from typing import Annotated

from torch import nn
from torch.nn import functional as F

from compose_vlp.components.layers.precision import full
from compose_vlp.registry import DETACHED, Settings, loss
from compose_vlp.values import Embedding, Scalar, Sequence


@loss("cosine", rows="independent")
class Cosine(nn.Module):
    """Mean of 1 - cosine of each position to that of the target (BEiT v2, Peng et al. 2022, eq. 3); over a row's
    positions, then over the rows."""

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        x: Annotated[Sequence, "rows tokens width"] | Annotated[Embedding, "rows width"],
        target: Annotated[Sequence, "rows tokens width", DETACHED] | Annotated[Embedding, "rows width", DETACHED],
    ) -> Scalar:
        """Features `[batch, tokens, width]`, or `[batch, width]`, and a target of the same shape, which gets no
        gradient. Padding is left out."""
        far = 1 - F.cosine_similarity(full(x.features), full(target.features.detach()), dim=-1)
        if far.dim() == 1:
            return Scalar(far.mean())
        valid = x.valid if isinstance(x, Sequence) else None
        if valid is None:
            return Scalar(far.mean())
        return Scalar(((far * valid).sum(1) / valid.sum(1).clamp(min=1)).mean())

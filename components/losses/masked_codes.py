"""Masked image modelling: the codes of hidden patches are foretold from what is left of the picture."""

from typing import Annotated

import torch
from torch import Tensor, nn

from compose_vlp.components.layers.summed_loss import Targets, summed
from compose_vlp.registry import DETACHED, Settings, loss
from compose_vlp.values import Labels, Logits, Mask, Scalar


@loss("masked_codes", rows="independent", selects=True, foretells="hidden")
class MaskedCodes(nn.Module):
    """Mean negative log-likelihood of the codes of the hidden patches (BEiT, Bao et al. 2022, eq. 2)."""

    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        logits: Annotated[Logits, "rows length classes"],
        codes: Annotated[Labels, "rows length classes", DETACHED],
        hidden: Annotated[Mask, "rows length", DETACHED],
    ) -> Scalar:
        """Scores `[batch, patches, classes]`, or `[chosen, classes]` at the places that `selects` names."""
        places = self.selects(hidden) if logits.at is None else logits.at
        total = summed(logits, Targets(codes.ids.flatten()[places]), places=places)
        count = torch.full((), len(places), device=places.device)
        return Scalar(total / count.clamp(min=1), count=count)

    def selects(self, hidden: Mask) -> Tensor:
        """Places `[chosen]` of the flattened `[batch * patches]` that are hidden."""
        if hidden.hidden.device.type == "meta":  # nothing is drawn
            return torch.arange(hidden.hidden.numel(), device="meta")
        return hidden.hidden.flatten().nonzero()[:, 0]

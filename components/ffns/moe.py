"""A mixture of experts in place of one feed-forward half."""

from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.auxiliary import Auxiliary
from compose_vlp.components.layers.attention import Linear
from compose_vlp.components.layers.precision import full, full_precision
from compose_vlp.registry import Settings, fills
from compose_vlp.slots import Part, Place, slot

MOST_EXPERTS: Final = 10_000
"""Each is made, on the meta device at least, before anything can be told of it."""


@fills("moe", slot="ffn", auxiliary=("balance", "router_z"), rows="independent", state="none", draws="none")
class MoE(Auxiliary):
    """Several FFNs, of which a router sends each position to the likeliest few: `[..., width]` to `[..., width]`.

    A position's result is the sum of its experts' results, each times its probability; of several the probabilities
    are made to sum to 1 (Shazeer et al. 2017; Lepikhin et al. 2021, GShard), of one it stays as it is, so that the
    router learns (Fedus et al. 2021, Switch, eq. 2). No position is dropped and experts have no capacity: a position
    depends on no other one, padding takes no other's place, and nothing is drawn.

    Two auxiliary losses, over the positions that are no padding, summed over layers:
    `balance` is `experts * sum(f * P)`, where `f` are the shares of positions that each expert gets (of all choices,
    where a position has several) and `P` the mean probabilities; 1 where all are equal (Fedus et al. 2021, eq. 4 to 6).
    `router_z` is the mean square of the log-sum-exp of the router's scores (Zoph et al. 2022, ST-MoE, eq. 5).

    It costs the FLOPs of `top` FFNs and of the router. Positions are put in order by their experts, and each expert
    runs once on its own; for how many each has, the host waits once a layer and call. Scores are in float32.
    """

    class Config(Settings):
        experts: int = Field(8, ge=1, le=MOST_EXPERTS, description="FFNs to choose from")
        top: int = Field(2, ge=1, description="experts of each position; not more than there are")
        inner: Part = slot("ffn", "mlp", "what each expert is")
        balance: float = Field(0.01, ge=0, description="weight of the loss that lets experts have equal shares")
        router_z: float = Field(0.0, ge=0, description="weight of the loss that keeps the router's scores small")

        @model_validator(mode="after")
        def _fitting(self) -> "MoE.Config":
            if self.top > self.experts:
                raise ValueError(f"`top` {self.top} is more than there are experts, {self.experts}")
            if self.inner.kind.traits.auxiliary:
                raise ValueError(f"`inner: {self.inner.use}` has auxiliary losses of its own, which no expert may have")
            return self

    def __init__(self, config: Config, place: Place) -> None:
        super().__init__()
        self.top = config.top
        self.router = Linear(place.width, config.experts, bias=False)
        self.experts = nn.ModuleList(config.inner.make(place) for _ in range(config.experts))

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Map each position by its own experts."""
        with full_precision(x.device):
            scores = F.linear(full(x), full(self.router.weight))
        probabilities = scores.softmax(-1)
        weights, experts = probabilities.topk(self.top, -1)
        if self.top > 1:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.is_read:
            self._tell(scores, probabilities, experts)
        spread = x.unsqueeze(-2).expand(*experts.shape, x.shape[-1]).flatten(0, -2)
        results = self._routed(spread, experts.flatten()).unflatten(0, experts.shape)
        mixed: Tensor = (results * weights.to(results.dtype).unsqueeze(-1)).sum(-2)
        return mixed

    def _routed(self, x: Float[Tensor, "choices width"], experts: Int[Tensor, " choices"]) -> Tensor:
        """Each row by its expert. Rows move by permutations, whose gradients are the same at every run."""
        order = experts.argsort(stable=True)
        pieces = x.index_select(0, order).split(self._sizes(experts))
        results = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces, strict=True)])
        return results.index_select(0, order.argsort())

    def _sizes(self, experts: Int[Tensor, " choices"]) -> list[int]:
        """Count each expert's rows; equal shares on the meta device, where no number is known."""
        count = len(self.experts)
        if experts.device.type == "meta":
            return [len(experts) * (i + 1) // count - len(experts) * i // count for i in range(count)]
        sizes: list[int] = experts.bincount(minlength=count).tolist()
        return sizes

    def _tell(self, scores: Tensor, probabilities: Tensor, experts: Tensor) -> None:
        chosen = F.one_hot(experts, len(self.experts)).to(probabilities.dtype).mean(-2)
        terms = {"share": chosen, "probability": probabilities, "router_z": scores.logsumexp(-1).square()}
        single = scores.dim() == 2  # no positions beside the rows
        self.add(**{name: term.unsqueeze(1) if single else term for name, term in terms.items()})

    def losses(self, means: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """`balance` and `router_z`, of one layer."""
        balance = len(self.experts) * (means["share"] * means["probability"]).sum()
        return {"balance": balance, "router_z": means["router_z"]}

"""Linear maps that are drawn once, at the size that a transformer wants."""

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """`[..., inputs]` to `[..., outputs]`; weights from N(0, std), biases 0.

    Without `std` it is `inputs ** -0.5`, which keeps the variance. Transformers give their branches' last maps
    `branch_std`, so that the sum over all layers stays of order one (Radford et al. 2021, CLIP's text tower).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, std: float | None = None) -> None:
        self.std = inputs**-0.5 if std is None else std
        super().__init__(inputs, outputs, bias=bias)

    def with_bias(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another bias than its own."""
        return F.linear(x, self.weight, bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def branch_std(width: int, depth: int) -> float:
    """Standard deviation of a residual branch's last map in a tower of `depth` layers."""
    return float((2 * depth * width) ** -0.5)


def tanh_map(inputs: int, outputs: int, std: float | None = None) -> nn.Sequential:
    """Two maps with a tanh between, as BEiT v2 puts before and behind its codes (Peng et al. 2022, 2.2)."""
    return nn.Sequential(Linear(inputs, inputs, std=std), nn.Tanh(), Linear(inputs, outputs, std=std))

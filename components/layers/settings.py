"""The settings that every tower of transformer layers has, and the inner parts that they make."""

from pydantic import Field
from torch import nn

from compose_vlp.components.layers.activation import Activation
from compose_vlp.components.layers.positions import Positions
from compose_vlp.registry import Settings
from compose_vlp.slots import Part, Place, slot


class TowerSettings(Settings):
    """A tower's `Config` extends it, and may give its fields other defaults."""

    depth: int = Field(12, ge=0, description="layers")
    mlp_width: int | None = Field(None, gt=0, description="hidden features of an MLP as FFN; four widths if left out")
    activation: Activation | None = Field(None, description="of the FFN; its kind's own if left out (mlp: gelu)")
    norm_eps: float = Field(1e-6, gt=0, description="added to the variance in every norm")
    ffn: Part = slot("ffn", "mlp", "the feed-forward half of every layer")
    norm: Part = slot("norm", "layer_norm", "every norm of the tower")
    positions: Part = slot("positions", "learned", "what tells the positions apart")

    def make_ffn(self, width: int, std: float | None = None, *, sub_norm: bool = False) -> nn.Module:
        """An FFN from `width` to `width` features; `std` is that of its last map's weights, before which `sub_norm`
        puts a norm (Magneto, Wang et al. 2022)."""
        inner = self.make_norm if sub_norm else None
        made: nn.Module = self.ffn.make(Place(width, self.mlp_width, self.activation, std, self.norm_eps, inner))
        return made

    def make_positions(self, width: int) -> Positions:
        """What tells positions apart, for one self-attention of `width` features."""
        made: Positions = self.positions.make(Place(width))
        return made

    @property
    def has_table(self) -> bool:
        """Is a vector for each position added to what comes in?"""
        kind: type[Positions] = self.positions.kind.implementation
        return kind.table

    @property
    def biases_scores(self) -> bool:
        """Are scores raised or lowered by how two positions lie to each other?"""
        kind: type[Positions] = self.positions.kind.implementation
        return kind.biases

    @property
    def turns(self) -> bool:
        """Do queries and keys depend on the places where they stand?"""
        kind: type[Positions] = self.positions.kind.implementation
        return kind.turns

    def make_norm(self, width: int) -> nn.Module:
        """A norm over `width` features."""
        made: nn.Module = self.norm.make(Place(width, eps=self.norm_eps))
        return made

"""Slots: settings of a tower whose value is an inner part, a kind with settings of its own.

A blueprint writes `ffn: swiglu`, or `ffn: {use: swiglu, bias: false}`; without `use` the fields are those of the kind
that stands there by default. `ffn` is the feed-forward half of a layer, `norm` every norm of a tower, `positions` what
tells its positions apart (`components.layers.attention.Positions`). A part is registered by `registry.fills`, built in
or in a plugin, and every tower with the slot can have it:

    @fills("swiglu", slot="ffn", rows="independent", state="none", draws="none")
    class SwiGLU(nn.Module):
        class Config(Settings):
            bias: bool = Field(True, description="have the three maps a bias?")

        def __init__(self, config: Config, place: Place) -> None: ...
        def forward(self, x: Tensor) -> Tensor: ...              # [..., width] to [..., width]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from compose_vlp import registry
from compose_vlp.graph.kinds import Kind


@dataclass(frozen=True)
class Place:
    """What a tower says of the place that an inner part gets.

    Args:
        width: features of what comes in and goes out.
        hidden: hidden features of an FFN; the part's own choice where it is None.
        activation: of an FFN; the part's own choice where it is None.
        std: standard deviation of the weights of a residual branch's last map; the map's own where it is None.
        eps: what a norm adds to the variance.
        sub_norm: makes the norm of an FFN's hidden features, before its last map; none where it is None.
    """

    width: int
    hidden: int | None = None
    activation: str | None = None
    std: float | None = None
    eps: float = 1e-6
    sub_norm: Callable[[int], Any] | None = None


class Part(BaseModel):
    """The kind that stands in a slot, with its settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str
    settings: SerializeAsAny[BaseModel]

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Read `"swiglu"` and `{"use": "swiglu", "bias": False}`, as Python code writes them."""
        fields = {"use": value} if isinstance(value, str) else value
        if isinstance(fields, dict) and "settings" not in fields and "use" in fields:
            settings = {name: field for name, field in fields.items() if name != "use"}
            model = registry.get(fields["use"]).config or registry.Settings
            return {"use": fields["use"], "settings": model(**settings)}
        return value

    @classmethod
    def names(cls, slot: str) -> list[str]:
        """List the names that may be written in a slot: built in, and of plugins."""
        return [name for name in registry.names("slot") if registry.slot_of(name) == slot]

    @classmethod
    def settings_of(cls, slot: str, name: str) -> type[BaseModel] | None:
        """Give the model of a part's settings; None where no part of this slot is called so."""
        return (registry.get(name).config or registry.Settings) if registry.slot_of(name) == slot else None

    @property
    def kind(self) -> Kind:
        """Look up what is known of the part."""
        return registry.get(self.use)

    def make(self, place: Place) -> Any:
        """Make a new module for one place of one layer."""
        return self.kind.implementation(self.settings, place)


def slot(name: str, default: str, description: str) -> Any:
    """Declare a setting of a tower that holds a part of this slot, by default `default`; annotate it `Part`."""
    return Field(
        default_factory=lambda: Part.model_validate(default),
        description=description,
        json_schema_extra={"slot": name, "kind": default},
    )

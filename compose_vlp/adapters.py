"""Adapters: what a blueprint puts in the place of linear maps that patterns name, as LoRA does.

A kind is a class in one file, built in or a plugin's. It is handed the sizes of a map, and at every call the map's own
weight and bias, which stay where they are: files, patterns and checkpoints name them as before, and what the adapter
owns lies below its name (`vision.layers.0.self_attention.branch.qkv.lora.down`).

    @adapter("lora", rows="independent", state="none", draws="noise", noise=("dropout",))
    class LoRA(nn.Module):
        class Config(Settings):
            rank: int = Field(8, gt=0, description="...")

        # raises a UserError where the map does not fit
        def __init__(self, config: Config, sizes: MapSizes) -> None: ...
        # [..., inputs] to [..., outputs]
        def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...
        # [outputs, inputs], where a plain map can do the same
        def merged(self, weight: Tensor) -> Tensor: ...
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapSizes:
    """What is known of a linear map before it has weights: features that come in, and that go out."""

    inputs: int
    outputs: int

"""Similarity of every row with every column, divided by a learned temperature."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from compose_vlp.components.layers.precision import full, full_precision
from compose_vlp.protocols import AfterStep
from compose_vlp.registry import Settings, component
from compose_vlp.values import Embedding
from compose_vlp.values import Similarity as SimilarityValue


@component("similarity", rows="independent", state="none", draws="none")
class Similarity(nn.Module, AfterStep):
    """Dot products of rows and columns over a temperature, in float32.

    `learned: temperature` learns the number that is divided by (ALBEF, BLIP, the CoCa paper); `learned: log_scale` the
    logarithm of what is multiplied with (CLIP, VLMo, open_clip's CoCa); `learned: nothing` leaves it as it is. `clamp`
    bounds a learned temperature: after every optimiser step the parameter is put back between the bounds, so its
    gradient is never cut.
    """

    temperature: nn.Parameter | None
    log_scale: nn.Parameter | None

    class Config(Settings):
        temperature: float = Field(0.07, gt=0, description="at the start")
        learned: Literal["temperature", "log_scale", "nothing"] = Field(
            "temperature", description="the parameter: what the products are divided by, or log(1 / temperature)"
        )
        clamp: tuple[float, float] | None = Field(
            None, description="least and greatest temperature; open_clip's scale of at most 100 is [0.01, 1]"
        )

        @model_validator(mode="after")
        def _bounds(self) -> "Similarity.Config":
            if self.clamp is not None and not 0 < self.clamp[0] < self.clamp[1]:
                raise ValueError("clamp: two temperatures above 0, the smaller one first")
            return self

    parts: Mapping[str, str] = {"temperature": "temperature", "log_scale": "log_scale"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        # Of shape [1]: FSDP2 refuses scalars.
        first = {"temperature": config.temperature, "log_scale": -math.log(config.temperature)}
        for name, value in first.items():
            learned = nn.Parameter(torch.full((1,), value)) if config.learned == name else None
            self.register_parameter(name, learned)

    def forward(
        self, x: Annotated[Embedding, "rows width"], y: Annotated[Embedding, "columns width"]
    ) -> Annotated[SimilarityValue, "rows columns"]:
        """`[rows, width]` and `[columns, width]` to `[rows, columns]`."""
        with full_precision(x.features.device):
            products = full(x.features) @ full(y.features).T
            if self.log_scale is not None:
                scores = products * self.log_scale.exp()
            else:
                scores = products / (self.config.temperature if self.temperature is None else self.temperature)
        return SimilarityValue(scores, y.own - x.own, y.queued)

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the parameter back between its bounds; the runtime calls this after every optimiser step."""
        if self.config.clamp is None:
            return
        least, most = self.config.clamp
        if self.log_scale is not None:
            self.log_scale.clamp_(-math.log(most), -math.log(least))
        elif self.temperature is not None:
            self.temperature.clamp_(least, most)

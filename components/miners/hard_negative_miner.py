"""Wrong partners that look right: drawn in proportion to how similar they are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.miners.candidates import batch_scores, weights_of, wrong_columns
from compose_vlp.graph.types import IndexType, RecordType
from compose_vlp.registry import DETACHED, Settings, component
from compose_vlp.values import Index, Number, Similarity


class Negatives(NamedTuple):
    """`image`: a wrong picture for each text; `text`: a wrong text for each picture."""

    image: Annotated[Index, "any_texts"]
    text: Annotated[Index, "any_images"]


@component("hard_negative_miner", rows="batch", state="none", draws="choice")
class HardNegativeMiner(nn.Module):
    """For each text a wrong picture, for each picture a wrong text, drawn by the softmax of their similarity.

    ALBEF (Li et al. 2021, section 3.2); BLIP adds a `floor` to every weight. Candidates are the batch's columns (those
    of all processes, where the columns are gathered), never a queue's. With `same`, the ids of the columns, whatever
    has the row's own id is no candidate: two texts of one picture are both right.
    """

    class Config(Settings):
        floor: float = Field(0.0, ge=0, description="added to every candidate's weight after the softmax (BLIP: 1e-4)")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        i2t: Annotated[Similarity, "any_images any_texts", DETACHED],
        t2i: Annotated[Similarity, "any_texts any_images", DETACHED],
        same: Annotated[Number, "any_ids"] | None = None,
    ) -> Negatives:
        """`[rows, columns]` each; the temperature is in them already.

        Raises:
            UserError: a row has no wrong partner: a batch of one, or all of it is of one id.
        """
        with torch.no_grad():
            return Negatives(image=Index(self._draw(t2i, same)), text=Index(self._draw(i2t, same)))

    def _draw(self, similarity: Similarity, same: Number | None) -> Tensor:
        allowed = wrong_columns(similarity, same)
        weights = weights_of(batch_scores(similarity), allowed, self.config.floor)
        return torch.multinomial(weights, 1)[:, 0]

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> RecordType:  # noqa: ARG004
        image, text = ports["t2i"], ports["i2t"]
        fields = {
            "image": IndexType(image.rows, points_at=replace(image.columns, queue=None)),
            "text": IndexType(text.rows, points_at=replace(text.columns, queue=None)),
        }
        return RecordType(image.rows, fields=fields)

"""Wrong partners that look right: drawn in proportion to how similar they are."""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.miners.candidates import batch_scores, draw_columns, weights_of, wrong_columns
from compose_vlp.registry import DETACHED, Compares, Settings, component
from compose_vlp.values import Index, Number, Similarity


class Negatives(NamedTuple):
    """`image`: a wrong picture for each text; `text`: a wrong text for each picture."""

    image: Annotated[Index, "any_texts any_seen_images"]
    text: Annotated[Index, "any_images any_seen_texts"]


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
        i2t: Annotated[Similarity, "any_images any_seen_texts", DETACHED, Compares("images", "texts")],
        t2i: Annotated[Similarity, "any_texts any_seen_images", DETACHED, Compares("texts", "images")],
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
        return draw_columns(weights, 1)[:, 0]

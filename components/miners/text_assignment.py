"""Which of two pictures is a text about?"""

from typing import Annotated, NamedTuple

import torch
from torch import nn

from compose_vlp.components.miners.candidates import batch_scores, draw_columns, own_places, weights_of, wrong_columns
from compose_vlp.registry import DETACHED, Compares, Settings, component
from compose_vlp.values import Index, Number, Similarity


class Assignment(NamedTuple):
    """Two pictures for each text; `answer` is 0 where it is about the left one, 1 the right one, 2 neither."""

    left: Annotated[Index, "any_rows any_images"]
    right: Annotated[Index, "any_rows any_images"]
    answer: Annotated[Number, "any_rows 3"]


@component("text_assignment", rows="batch", state="none", draws="choice")
class TextAssignment(nn.Module):
    """For each text its own picture beside one that looks like it, or two that look like it, a third of each.

    The task that prepares ALBEF for statements about two pictures (Li et al. 2021, 4.4). Other pictures are drawn from
    the batch by the softmax of their similarity to the own one (those of all processes, where the columns are
    gathered); with `same`, the ids of the columns, whatever has the row's own id is no other.
    """

    class Config(Settings):
        """It has none."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        i2i: Annotated[Similarity, "any_rows any_images", DETACHED, Compares("images", "images")],
        same: Annotated[Number, "any_ids"] | None = None,
    ) -> Assignment:
        """Similarity `[rows, columns]` of pictures with each other, the temperature in it already.

        Raises:
            UserError: a row has not two others: a batch of two, or one whose other records are of its own id.
        """
        with torch.no_grad():
            allowed = wrong_columns(i2i, same, fewest=2)
            first, second = draw_columns(weights_of(batch_scores(i2i), allowed, fewest=2), 2).T
            own, answer = own_places(i2i), torch.randint(3, first.shape, device=first.device)
            left = torch.where(answer == 0, own, first)
            right = torch.where(answer == 0, first, torch.where(answer == 1, own, second))
        return Assignment(Index(left), Index(right), Number(answer))

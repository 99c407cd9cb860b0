"""Wrong partners of a row, and how much each weighs."""

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.values import Number, Similarity


def batch_scores(similarity: Similarity) -> Tensor:
    """Scores `[rows, columns]` in float32, without a queue's columns."""
    scores = similarity.scores.float()
    return scores[:, : scores.shape[1] - similarity.queued]


def own_places(similarity: Similarity) -> Tensor:
    """The column of each row's own partner, `[rows]`."""
    return torch.arange(len(similarity.scores), device=similarity.scores.device) + similarity.own


def wrong_columns(similarity: Similarity, same: Number | None, fewest: int = 1) -> Tensor:
    """True where a column `[rows, columns]` is a wrong partner of the row: another one, of another id.

    Raises:
        UserError: a row has fewer than so many.
    """
    scores, places = batch_scores(similarity), own_places(similarity)
    columns = scores.shape[1]
    if columns <= fewest:
        what = "a batch of one has no wrong pair" if fewest == 1 else f"a batch of {columns} is too small"
        raise UserError(f"{what} to learn from", hints=["a larger `batch`, or one more record a process"])
    if same is None:
        return torch.arange(columns, device=scores.device) != places[:, None]
    ids = same.values[:columns]
    allowed = ids != ids[places][:, None]
    if ids.device.type != "meta" and not bool((allowed.sum(1) >= fewest).all()):
        raise UserError(
            "every record of a batch has the same id, so that it holds no wrong pair"
            if fewest == 1
            else f"a record has fewer than {fewest} of another id beside it in its batch",
            hints=["a larger `batch`", "an `id` input that reads what tells the records apart"],
        )
    return allowed


def weights_of(scores: Tensor, allowed: Tensor, floor: float = 0.0, fewest: int = 1) -> Tensor:
    """The softmax of each row's scores `[rows, columns]` and `floor`, 0 where a column is not allowed.

    Where less than `fewest` columns are left with a weight (all of it lies on the right one, or rounds to nothing), any
    wrong one is as good as another.
    """
    weights = (scores.softmax(1).nan_to_num(0.0) + floor).masked_fill(~allowed, 0.0)
    empty = (weights > 0).sum(1, keepdim=True) < fewest
    return torch.where(empty, allowed.float(), weights)


def draw_columns(weights: Tensor, count: int) -> Tensor:
    """Different columns `[rows, count]` of each row, drawn by weights that `weights_of` made.

    As `torch.multinomial` draws, whose checks of the weights would wait for the device.
    """
    return (weights / torch.empty_like(weights).exponential_()).topk(count, 1).indices

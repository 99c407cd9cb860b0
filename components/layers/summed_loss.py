"""Cross-entropies of many rows over many classes, added up: at once, or in chunks of rows.

The scores of 4,096 words over a vocabulary of 64,000 take 1 GB, and as much again for their logarithms and their
gradients. In chunks no more than `CHUNK` rows of them are there at a time: the forward makes each chunk's scores, its
loss, and at once the gradients of the features and of the table, which the backward only has to scale.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from compose_vlp.components.layers.precision import autocast_kind, full, full_precision
from compose_vlp.values import Logits
from compose_vlp.values.unscored import UnscoredLogits

CHUNK: Final = 512
"""Rows up to which scores are made at once, and of which a chunk consists."""

MANY: Final = 1024
"""Chunks that are made at most where tensors hold no number: of more rows than in so many chunks, the step is so large
that larger chunks change none of its figures, and each takes milliseconds to count.
"""

IGNORED: Final = -100
"""The label of a row that has no term."""


@dataclass(frozen=True)
class Targets:
    """Describe what each row's scores are held to: the cross-entropy against a mixture of three distributions.

    `1 - alpha` times the label's, of which `smoothing` is spread evenly over all classes, and `alpha` times that of a
    teacher's scores `soft` of the same rows (without them, `alpha` is nothing). `weights` `[rows]` are on the rows.
    """

    labels: Int[Tensor, " rows"]
    smoothing: float = 0.0
    soft: Logits | None = None
    alpha: float = 0.0
    weights: Tensor | None = None


def summed(logits: Logits, targets: Targets, *, places: Tensor | None = None, drop_worst: float = 0.0) -> Tensor:
    """Add up all rows' cross-entropies `[]`, but for the share `drop_worst` of them that are largest.

    Args:
        logits: `[..., classes]`, the leading dimensions flattened to rows.
        targets: of these rows, or of those at `places`.
        places: `[rows]` of the flattened scores; None where the targets are of all of them.
        drop_worst: rounded so that at least one row is kept.
    """
    if isinstance(logits, UnscoredLogits) and len(targets.labels) > CHUNK:
        return _in_chunks(logits, targets, places, drop_worst)
    scores = full(_rows(logits, places))
    lost = F.cross_entropy(
        scores, targets.labels, ignore_index=IGNORED, label_smoothing=targets.smoothing, reduction="none"
    )
    if targets.soft is not None:
        taught = -(full(_rows(targets.soft, places).detach()).softmax(1) * scores.log_softmax(1)).sum(1)
        lost = (1 - targets.alpha) * lost + targets.alpha * taught.masked_fill(targets.labels == IGNORED, 0)
    if targets.weights is not None:
        lost = lost * targets.weights.to(lost.dtype)
    if drop_worst > 0 and len(lost) > 0:
        lost = lost.topk(kept_of(len(lost), drop_worst), largest=False).values
    return lost.sum()


def kept_of(rows: int, drop_worst: float) -> int:
    """Count the rows that are kept where this share of the worst ones is dropped: one at least, if there is one."""
    return min(max(int(rows * (1 - drop_worst)), 1), rows)


def _rows(logits: Logits, places: Tensor | None) -> Float[Tensor, "rows classes"]:
    flat = logits.scores.flatten(0, -2)
    return flat if places is None or logits.at is not None else flat[places]


# --- in chunks


def _in_chunks(logits: UnscoredLogits, targets: Targets, places: Tensor | None, drop_worst: float) -> Tensor:
    rows = _Rows(targets, places, _working_dtype(logits.features))
    features, weight, bias = logits.features, logits.weight, logits.bias
    with full_precision(features.device):
        if drop_worst > 0:
            lost = rows.lost(features.detach(), weight.detach(), bias)
            kept = torch.zeros_like(lost)
            kept[lost.topk(kept_of(len(lost), drop_worst), largest=False).indices] = 1
            rows = replace(rows, kept=kept)
        total: Tensor = _Total.apply(  # type: ignore[no-untyped-call]
            features, weight, bias, rows, torch.is_grad_enabled()
        )
    return total


def _working_dtype(features: Tensor) -> torch.dtype:
    """The type of products here: under autocast its own."""
    kind = autocast_kind(features.device)
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype


@dataclass(frozen=True)
class _Rows:
    """Targets chunk by chunk; `dtype` is that of products, `kept` `[rows]` is 0 for rows that do not count."""

    targets: Targets
    places: Tensor | None
    dtype: torch.dtype
    kept: Tensor | None = None

    def chunks(self) -> Iterator[slice]:
        """Yield slices that cover all rows."""
        rows = len(self.targets.labels)
        size = max(CHUNK, ceil(rows / MANY)) if self.targets.labels.is_meta else CHUNK
        for start in range(0, rows, size):
            yield slice(start, start + size)

    def cast(self, *tensors: Tensor | None) -> list[Any]:
        return [None if tensor is None else tensor.detach().to(self.dtype) for tensor in tensors]

    @torch.no_grad()
    def lost(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Float[Tensor, " rows"]:
        """Compute the term of each row, without gradients."""
        weight, bias = self.cast(weight, bias)
        soft = self.soft_scores()
        return torch.cat(
            [
                self.judge(chunk, full(F.linear(features[chunk].to(self.dtype), weight, bias)), soft, slope=False)
                for chunk in self.chunks()
            ]
        )

    def judge(
        self,
        chunk: slice,
        scores: Float[Tensor, "chunk classes"],
        soft: Callable[[slice], Tensor] | None,
        *,
        slope: bool = True,
    ) -> Float[Tensor, " chunk"]:
        """Compute each row's term; with `slope`, `scores` become the gradient of their sum."""
        t, classes = self.targets, scores.shape[1]
        alpha = 0.0 if soft is None else t.alpha
        hard, even = (1 - alpha) * (1 - t.smoothing), (1 - alpha) * t.smoothing / classes
        taught = None if soft is None else full(soft(chunk)).softmax(1).mul_(alpha)
        labels, weights = t.labels[chunk].clamp(min=0)[:, None], self.weights(chunk, scores.dtype)
        partition = scores.logsumexp(1)
        lost = partition - hard * scores.gather(1, labels)[:, 0] - even * scores.sum(1)
        if taught is not None:
            lost = lost - torch.linalg.vecdot(taught, scores)
        if slope:
            scores.sub_(partition[:, None]).exp_().sub_(even)
            if taught is not None:
                scores.sub_(taught)
            scores.scatter_add_(1, labels, scores.new_full(labels.shape, -hard)).mul_(weights[:, None])
        return lost * weights

    def weights(self, chunk: slice, dtype: torch.dtype) -> Float[Tensor, " chunk"]:
        """Weigh each row: nothing, where it has no label or is dropped."""
        weights = (self.targets.labels[chunk] != IGNORED).to(dtype)
        for factors in (self.targets.weights, self.kept):
            weights = weights if factors is None else weights * factors[chunk].to(dtype)
        return weights

    def soft_scores(self) -> Callable[[slice], Tensor] | None:
        """Make the teacher's scores of a chunk."""
        soft = self.targets.soft
        if soft is None:
            return None
        if not isinstance(soft, UnscoredLogits):
            scores = soft.scores.detach().flatten(0, -2)
            places = self.places if soft.at is None else None
            return lambda chunk: scores[chunk if places is None else places[chunk]]
        features, weight, bias = self.cast(soft.features, soft.weight, soft.bias)
        return lambda chunk: F.linear(features[chunk], weight, bias)


class _Total(torch.autograd.Function):
    """The sum of all rows' terms, with the gradients made in its forward."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, rows: _Rows, recording: bool
    ) -> Tensor:
        needs = [recording and need for need in ctx.needs_input_grad[:3]]
        of_features = torch.empty_like(features) if needs[0] else None
        of_weight = torch.zeros_like(weight) if needs[1] else None
        of_bias = torch.zeros_like(bias) if needs[2] and bias is not None else None
        cast_weight, cast_bias = rows.cast(weight, bias)
        soft, total = rows.soft_scores(), full(features.new_zeros(()))
        for chunk in rows.chunks():
            x = features[chunk].to(rows.dtype)
            scores = full(F.linear(x, cast_weight, cast_bias))
            total = total + rows.judge(chunk, scores, soft, slope=any(needs)).sum()
            slopes = scores.to(rows.dtype)
            if of_features is not None:
                of_features[chunk] = slopes @ cast_weight
            if of_weight is not None:
                _add_product(of_weight, slopes.T, x)
            if of_bias is not None:
                of_bias += scores.sum(0)
        ctx.save_for_backward(of_features, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = (None if tensor is None else tensor * gradient for tensor in ctx.saved_tensors)
        return (*made, None, None)


def _add_product(to: Tensor, a: Tensor, b: Tensor) -> None:
    """Add `a @ b` in place, in one product where the types agree."""
    if to.dtype == a.dtype:
        to.addmm_(a, b)
    else:
        to += a @ b

"""Autocast where tensors hold no number, so that what is counted from shapes is counted in the precision of the step.

torch's own works on the tensors of real devices alone: its dispatcher passes those of the meta device by. Fake tensors
of a GPU would obey it, but the places that need a number and have a way around it (masks, miners) know the meta device.
So its rules are followed here one level up, at the functions that are called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from compose_vlp.components.layers.precision import autocast_kind


class Rule(Enum):
    """What autocast does with a function."""

    HALF = auto()
    """It is given rounded tensors."""
    FULL = auto()
    """It is given float32, be it made of what was rounded."""
    FULL_RESULT = auto()
    """It takes what it is given, and makes float32 of it."""
    WIDEST = auto()
    """It is given tensors of one type, float32 where any has it."""


PRODUCTS: Final = """
    conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu addmm addmv addr matmul
    __matmul__ __rmatmul__ einsum mm mv vecdot linear addbmm baddbmm bmm chain_matmul multi_dot
    scaled_dot_product_attention multi_head_attention_forward convolution lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
"""
LOSSES: Final = """
    cosine_embedding_loss cross_entropy nll_loss hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss
    margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss poisson_nll_loss
    binary_cross_entropy_with_logits cdist
"""
ON_GPU: Final = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow __pow__ __rpow__ softplus
    layer_norm native_layer_norm group_norm frobenius_norm nuclear_norm cosine_similarity dist pdist renorm logsumexp
    interpolate normalize
"""
SUMS: Final = "softmax log_softmax cumprod cumsum vector_norm matrix_norm sum norm prod"
PAIRS: Final = """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put index_put_ tensordot scatter_add scatter_add_
"""
BY_NAME: Final[Mapping[str, Mapping[Rule, str]]] = {
    "cuda": {Rule.HALF: PRODUCTS, Rule.FULL: LOSSES + ON_GPU, Rule.FULL_RESULT: SUMS, Rule.WIDEST: PAIRS},
    "cpu": {Rule.HALF: PRODUCTS, Rule.FULL: LOSSES + "prod", Rule.WIDEST: "grid_sampler"},
}
"""Functions by the names of torch's own lists, and by those of Python's functions that are made of such ones."""


def _rules(by_name: Mapping[Rule, str]) -> dict[Callable[..., Any], Rule]:
    places = (torch, Tensor, F, torch.linalg, torch.special)
    return {
        getattr(place, name): rule
        for rule, names in by_name.items()
        for name in names.split()
        for place in places
        if callable(getattr(place, name, None))
    }


RULES: Final = {kind: _rules(by_name) for kind, by_name in BY_NAME.items()}
STATE: Final = autocast_kind(torch.device("meta"))
"""Whether autocast is on for the meta device, and in which type, is what torch knows of this one; what turns it off so
turns it off here.
"""


class Autocast(TorchFunctionMode):
    """Within it, functions on the meta device compute in the types of a device's autocast, where it is on.

    A weight is rounded once, and its copy is there until the end: `rounded` are the bytes of all of them. The weights
    `halved` are there in half precision as it is: what stands for such a copy is given to `on_halved`.
    """

    def __init__(self, kind: str, halved: Collection[int] = ()) -> None:
        super().__init__()
        self.rounded = 0
        self.on_halved: Callable[[Tensor], None] = lambda _: None
        self._halved = halved
        self._rules = RULES[kind]
        self._copies: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None or not torch.is_autocast_enabled(STATE):
            return func(*args, **kwargs)
        if rule is Rule.FULL_RESULT:
            if args and _may_be_cast(args[0]) and kwargs.get("dtype") is None:
                kwargs = kwargs | {"dtype": torch.float32}
            return func(*args, **kwargs)
        dtype = _dtype(rule, (args, kwargs))
        args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: self._cast(tensor, dtype), (args, kwargs))
        return func(*args, **kwargs)

    def _cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if not _may_be_cast(tensor) or tensor.dtype == dtype:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(dtype)
        key = id(tensor), torch.is_grad_enabled()
        if key not in self._copies:
            self._copies[key] = tensor, tensor.to(dtype)
            copy = self._copies[key][1]
            if id(tensor) in self._halved:
                self.on_halved(copy)
            else:
                self.rounded += copy.nbytes
        return self._copies[key][1]


@contextmanager
def autocast_of_shapes(precision: str, kind: str, halved: Collection[int] = ()) -> Iterator[Autocast]:
    """Within it, functions on the meta device compute in the types of this `precision` on devices of a kind.

    Kinds are `cuda` and `cpu`: these differ in norms, softmax and sums of what is rounded already. `halved` are the ids
    of weights that are in half precision as it is.
    """
    before = torch.is_autocast_enabled(STATE), torch.get_autocast_dtype(STATE)
    torch.set_autocast_enabled(STATE, precision == "bf16")
    torch.set_autocast_dtype(STATE, torch.bfloat16)
    try:
        with Autocast(kind, halved) as mode:
            yield mode
    finally:
        torch.set_autocast_enabled(STATE, before[0])
        torch.set_autocast_dtype(STATE, before[1])


def _dtype(rule: Rule, given: Any) -> torch.dtype:
    wide = rule is Rule.FULL or (
        rule is Rule.WIDEST
        and any(_may_be_cast(leaf) and leaf.dtype == torch.float32 for leaf in pytree.tree_leaves(given))
    )
    return torch.float32 if wide else torch.get_autocast_dtype(STATE)


def _may_be_cast(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta and value.dtype in (torch.float32, torch.bfloat16, torch.float16)

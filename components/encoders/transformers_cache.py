"""Our cache of keys and values in the form in which the transformers library asks for one."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache as TheirCache
from transformers.cache_utils import CacheLayerMixin

from compose_vlp.values.cache import Cache


class KeptLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, `[batch, heads, n, width]`, kept by our cache under the layer's number."""

    is_sliding = False

    def __init__(self, kept: Cache, number: int) -> None:
        super().__init__()
        self._kept = kept
        self._name = f"layer {number}"

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: our cache begins empty."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values of the layer, the new ones last."""
        keys, values = self._kept.append(self._name, key_states.transpose(1, 2), value_states.transpose(1, 2))
        return keys.transpose(1, 2), values.transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._kept.length + query_length, 0

    def get_seq_length(self) -> int:
        return self._kept.length

    def get_max_length(self) -> int:
        return -1


def borrowed(kept: Cache, layers: int) -> TheirCache:
    """A cache of the library whose `layers` layers are kept in ours."""
    return TheirCache(layers=[KeptLayer(kept, number) for number in range(layers)])

"""Vectors of length one."""

from dataclasses import replace
from typing import Annotated

from torch.nn import functional as F

from compose_vlp.registry import EACH, function
from compose_vlp.values import Embedding


@function("normalize")
def normalize(x: Annotated[Embedding, "rows width", EACH]) -> Annotated[Embedding, "rows width"]:
    """Each row `[rows, width]` divided by its Euclidean length."""
    return replace(x, features=F.normalize(x.features, dim=-1))

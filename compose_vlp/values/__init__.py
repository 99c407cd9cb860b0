"""Values at run time: tensors with what has to travel with them."""

from compose_vlp.values.values import (
    Embedding,
    Image,
    Index,
    Labels,
    Logits,
    Mask,
    Number,
    Part,
    Record,
    Scalar,
    Sequence,
    Similarity,
    Text,
    Value,
    as_list,
    rows_of,
)

__all__ = [
    "Embedding",
    "Image",
    "Index",
    "Labels",
    "Logits",
    "Mask",
    "Number",
    "Part",
    "Record",
    "Scalar",
    "Sequence",
    "Similarity",
    "Text",
    "Value",
    "as_list",
    "rows_of",
]

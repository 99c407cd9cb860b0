"""The positions of a sequence that are words of a text."""

from torch import Tensor

from compose_vlp.values import Sequence, Text


def text_features(x: Sequence) -> tuple[Tensor, Text | None]:
    """Features `[batch, length, width]` at the words of the one text that `x` stands on, and this text.

    A CLS that was put behind the words is left out. Where no text, or more than one, is under `x`, all its positions.
    """
    parts = [part for part in x.parts if part.text is not None]
    if len(parts) != 1 or parts[0].text is None:
        return x.features, None
    text = parts[0].text
    words = min(text.ids.shape[1], parts[0].length)  # `.tokens` has taken out a first one
    return x.features[:, parts[0].start : parts[0].start + words], text

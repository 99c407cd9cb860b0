"""Batches of any source for the outputs of a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compose_vlp.blueprint.inputs import Input
from compose_vlp.data.loader import Loader
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.data.wording import is_text
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.values import Value

BATCH = 50
"""Rows that outputs are asked for at once."""


@dataclass(frozen=True)
class First(Source):
    """The first records of a source."""

    source: Source
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def record(self, index: int) -> Any:
        return self.source.record(index)


def batches(
    asker: Asker, source: Source, inputs: Iterable[str], count: int
) -> Iterator[tuple[tuple[int, ...], dict[str, Value]]]:
    """Record numbers and values, record by record once through, pictures as in evaluation; broken ones left out."""
    kept: dict[str, Input] = {name: asker.blueprint.inputs[name] for name in inputs}
    loader = Loader(
        First(source, count), kept, asker.tokenizers, batch=BATCH, train=False, skip_limit=source.skip_limit
    )
    for batch in loader:
        yield batch.rows, {name: value.to(asker.device) for name, value in batch.values.items()}


def finite(scores: Tensor, output: str) -> Tensor:
    """Scores of an output, all of them finite: a comparison with nan is false, and would pass for a perfect rank.

    Raises:
        UserError: some are not.
    """
    broken = int((~torch.isfinite(scores)).sum())
    if broken:
        raise UserError(
            f"{broken:,} of {scores.numel():,} numbers of output {output!r} are nan or infinite: nothing is measured",
            hints=[
                "the weights of a run that diverged are broken for good: train again, or from an earlier checkpoint"
            ],
        )
    return scores


def need(asker: Asker, task: str, *outputs: str) -> None:
    """Refuse a task whose outputs a blueprint does not have.

    Raises:
        UserError: names the outputs that are missing.
    """
    missing = [name for name in outputs if name not in asker.blueprint.outputs]
    if missing:
        raise UserError(
            f"{task} asks for the outputs {' and '.join(outputs)}; there is no {' and no '.join(missing)}",
            hints=[f"its outputs: {', '.join(asker.blueprint.outputs) or 'none'}"],
        )


def picture_and_text(asker: Asker, output: str, what: str) -> tuple[str, str]:
    """Find the fields of a record that an output of pairs reads: that of its picture, and that of its text.

    Raises:
        UserError: it reads anything else; the message begins with `what` would read it.
    """
    types = asker.types_read(output)
    if sorted(types.values()) != ["image", "text"]:
        raise UserError(f"{what}; {output!r} reads {', '.join(types)}")
    image, text = sorted(types, key=lambda field: types[field])
    return image, text


ASKS = {
    "classification": "an output of the scores that a loss compares with a label",
    "answering": "an output that writes or ranks answers (`generate` or `rank`, over a text that is `many`), or of "
    "scores that a loss compares with a label that is `many` and has `classes`",
    "grounding": "an output of the form `relevance`, of a picture and a text",
}
"""What tasks ask for whose outputs have any name."""


def no_outputs(asker: Asker, task: str) -> UserError:
    """Make the error for a task that no output of a blueprint answers, whatever it is called."""
    outputs = ", ".join(asker.blueprint.outputs) or "none"
    return UserError(
        f"{task} asks for {ASKS[task]}; {asker.blueprint.name} has none", hints=[f"its outputs: {outputs}"]
    )


def texts_of(source: Source, rows: Iterable[int], field: str) -> list[tuple[str, ...]]:
    """Read the texts of records, several where a record has several captions; none where it has no text."""
    return [texts_in(value) for value in values_of(source, rows, field)]


def texts_in(value: object) -> tuple[str, ...]:
    """List the texts that a field's value holds (a text, or a list of them), without the empty and unreadable ones."""
    texts = (value,) if isinstance(value, str) else value if isinstance(value, Iterable) else ()
    return tuple(text for text in texts if is_text(text) and text.strip())


def values_of(source: Source, rows: Iterable[int], field: str) -> Iterator[Any]:
    """Read a field of these records; None where they lack it or cannot be read."""
    for row in rows:
        try:
            value = source.record(row).get(field)
            yield value() if callable(value) else value
        except BadRecord:
            yield None

"""The captioner: an output that writes texts, asked for several a picture, drawn by nucleus sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from compose_vlp.data.collate import Collator
from compose_vlp.data.draws import Draws
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference.outputs import Asker

TOP_P: Final = 0.9
"""The share of probability that BLIP's captioner draws from (4.2: diverse texts teach more than likely ones)."""


@dataclass(frozen=True)
class Captioner:
    """A model that writes texts for the pictures in the field `image` of records; `run` is its name in the data that
    comes out."""

    asker: Asker
    run: str
    output: str
    image: str
    search: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, asker: Asker, run: str, *, output: str | None = None, search: Mapping[str, Any] | None = None
    ) -> Captioner:
        """Make the captioner from a blueprint's output: the only one that writes texts, where none is named.

        Raises:
            UserError: no output writes texts, several do, or it reads anything but one picture.
        """
        writers = [name for name, entry in asker.blueprint.outputs.items() if entry.form == "generate"]
        chosen = output if output is not None else (writers[0] if len(writers) == 1 else None)
        if chosen not in writers:
            raise _no_writer(asker.blueprint.name, chosen, writers)
        types = asker.types_read(chosen)
        if list(types.values()) != ["image"]:
            raise UserError(
                f"a captioner reads one picture; output {chosen!r} of {asker.blueprint.name} reads {', '.join(types)}"
            )
        how = {"top_p": TOP_P} if search is None else dict(search)
        asker.search(chosen, how)
        return cls(asker, run, chosen, next(iter(types)), how)

    @property
    def inputs(self) -> tuple[str, ...]:
        """List the inputs that the picture fills."""
        return self.asker.inputs_read(self.output)

    def read(self, record: Mapping[str, Any]) -> list[Any]:
        """Read what the model sees of a record.

        Raises:
            BadRecord: the picture is broken.
        """
        return self._collator.read(record)

    def write(self, items: Sequence[list[Any]], seed: int, first: int, number: int) -> list[str]:
        """Text `number` for each of these pictures, the first being of record `first`; the same each time."""
        values = {name: value.to(self.asker.device) for name, value in self._collator.stack(items).items()}
        drawn = Draws("capfilt", seed, first, number).below(2**53)
        return self.asker.texts_of_batch(self.output, values, seed=drawn, **self.search)

    @cached_property
    def _collator(self) -> Collator:
        return self.asker.collator(self.inputs)


def _no_writer(blueprint: str, output: str | None, writers: Sequence[str]) -> UserError:
    if not writers:
        return UserError(
            f"{blueprint} has no output that writes texts, so it is no captioner",
            hints=["`--texts web` filters the web's texts alone", "a run of BLIP or CoCa writes texts"],
        )
    what = f"has no output {output!r} that writes texts" if output else "has several outputs that write texts"
    return UserError(f"{blueprint} {what}", hints=[f"`--output NAME` takes one of {', '.join(writers)}"])

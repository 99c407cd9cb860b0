"""Asking a trained model: its outputs by name, called with pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.blueprint.sections import Generate
from compose_vlp.compiler.compile import Compiled, compile_plan
from compose_vlp.compiler.incremental import Incremental, compile_incremental
from compose_vlp.compiler.model import Model, Step
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.collate import Collator
from compose_vlp.data.source import BadRecord
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.inference.generate import generate
from compose_vlp.runtime.inference.search import Search
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import rows_of

DRAWS = frozenset({"top_p", "top_k", "temperature"})
SEARCH_SETTINGS = DRAWS | {"beams", "max_length", "min_length", "length_penalty", "repetition_penalty"}


@dataclass
class Asker:
    """A model with its blueprint and tokenizers, and the programs of the outputs that were asked for so far."""

    blueprint: CheckedBlueprint
    model: Model
    tokenizers: Mapping[str, Tokenizer]
    device: torch.device
    _values: dict[str, Compiled] = field(default_factory=dict)
    _generations: dict[str, Incremental] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.tokenizers = dict(self.tokenizers)  # programs find tokens such as [DEC] by name

    def inputs_read(self, output: str) -> tuple[str, ...]:
        """The inputs that an output has to be given."""
        entry = self._entry(output)
        plan = (self._generation(output).whole if entry.form == "generate" else self._program(output)).plan
        return tuple(call.target for call in plan.calls if call.role == "input" and call.target != entry.over)

    def value(self, output: str, inputs: Mapping[str, Sequence[Any]]) -> Tensor:
        """An output that is a value: one row for each picture or text given.

        Raises:
            UserError: no such output, or inputs that are missing or not read.
        """
        return self.value_of_batch(output, self.batch(output, inputs))

    def value_of_batch(self, output: str, batch: Mapping[str, Any]) -> Tensor:
        """The same for a batch that a loader made."""
        with evaluating(self.model), torch.no_grad():
            result = self.model(self._program(output).run, batch, Step(self.blueprint.constants_and_starts()))[output]
        return tensor_of(result)

    def texts(self, output: str, inputs: Mapping[str, Sequence[Any]], *, seed: int = 0, **settings: Any) -> list[str]:
        """A `generate` output: one text for each row. `settings` replace those of the blueprint (`beams`, `top_p` ...).

        Raises:
            UserError: no such output or setting, or inputs that are missing or not read.
        """
        return self.texts_of_batch(output, self.batch(output, inputs), seed=seed, **settings)

    def texts_of_batch(
        self, output: str, batch: Mapping[str, Any], *, seed: int = 0, cached: bool = True, **settings: Any
    ) -> list[str]:
        """The same for a batch that a loader made."""
        ids = self.ids_of_batch(output, batch, seed=seed, cached=cached, **settings)
        tokenizer = self._tokenizer(output)
        return [tokenizer.decode(row) for row in ids.tolist()]

    def ids_of_batch(
        self, output: str, batch: Mapping[str, Any], *, seed: int = 0, cached: bool = True, **settings: Any
    ) -> Tensor:
        """Token ids [rows, length] of a `generate` output, padded after each end."""
        entry = self._entry(output)
        how, frame = self._search(output, settings)
        tokenizer = self._tokenizer(output)
        if tokenizer.begin_id is None:
            raise UserError(f"output {output!r} cannot begin a text: its tokenizer has no begin token")
        programs = self._generation(output)
        batch = {name: value for name, value in batch.items() if name != entry.over}
        rows = rows_of(dict(batch))
        start = torch.full((rows, 1), tokenizer.begin_id, device=self.device)
        generator = torch.Generator(self.device).manual_seed(seed)
        return generate(self.model, programs, batch, start, how, frame=frame, cached=cached, generator=generator)

    def batch(self, output: str, inputs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Values for an output's inputs from pictures and texts, all lists of one length."""
        wanted = self.inputs_read(output)
        for name in inputs:
            if name not in wanted:
                raise UserError(f"output {output!r} does not read {name!r}", hints=[f"it reads {', '.join(wanted)}"])
        missing = [name for name in wanted if name not in inputs]
        if missing:
            raise UserError(f"output {output!r} needs {', '.join(missing)}")
        kept = {name: self.blueprint.inputs[name] for name in wanted}
        collator = Collator(kept, self.tokenizers)
        fields = {name: settings.field or name for name, settings in kept.items()}
        records = [
            {fields[name]: value for name, value in zip(inputs, row, strict=True)}
            for row in zip(*inputs.values(), strict=True)
        ]
        try:
            values = collator.stack([collator.read(record) for record in records])
        except BadRecord as error:
            raise UserError(f"output {output!r} cannot be asked: {error}") from error
        return {name: value.to(self.device) for name, value in values.items()}

    def _entry(self, output: str) -> Any:
        if output not in self.blueprint.outputs:
            known = list(self.blueprint.outputs)
            raise UserError(
                f"{self.blueprint.name} has no output {output!r}",
                hints=did_you_mean(output, known) or [f"outputs: {', '.join(known) or 'none'}"],
            )
        return self.blueprint.outputs[output]

    def _program(self, output: str) -> Compiled:
        if output not in self._values:
            wanted = {output: self._entry(output).ref}
            self._values[output] = compile_plan(self.blueprint, "ask", wanted, trainable=lambda _: False)
        return self._values[output]

    def _generation(self, output: str) -> Incremental:
        if output not in self._generations:
            self._generations[output] = compile_incremental(self.blueprint, output)
        return self._generations[output]

    def _tokenizer(self, output: str) -> Tokenizer:
        entry = self._entry(output)
        if entry.form != "generate" or entry.over is None:
            raise UserError(f"output {output!r} is a value, and no text is generated for it")
        settings = self.blueprint.inputs[entry.over]
        assert isinstance(settings, TextInput)
        return self.tokenizers[settings.tokenizer]

    def _search(self, output: str, settings: Mapping[str, Any]) -> tuple[Search, int]:
        for name in settings:
            if name not in SEARCH_SETTINGS:
                raise UserError(f"generation has no setting {name!r}", hints=did_you_mean(name, SEARCH_SETTINGS))
        entry, tokenizer = self._entry(output), self._tokenizer(output)
        over = self.blueprint.inputs[str(entry.over)]
        assert isinstance(over, TextInput), "the checker lets texts alone be generated"
        written = entry.settings.model_dump(exclude_none=True, include=SEARCH_SETTINGS)
        chosen = {"max_length": over.max_length, **_chosen(written, settings)}
        _check_search(chosen)
        if chosen["max_length"] > over.max_length:
            raise UserError(
                f"max_length {chosen['max_length']} is longer than the {over.max_length} positions of {entry.over!r}"
            )
        if tokenizer.end_id is None:
            raise UserError(f"output {output!r} would never end: its tokenizer has no end token")
        mask = tokenizer.mask_id if entry.settings.by == "mask" else None
        if entry.settings.by == "mask" and mask is None:
            raise UserError(f"output {output!r} reads words at a mask token, and its tokenizer has none")
        return Search(end=tokenizer.end_id, pad=tokenizer.pad_id or 0, mask=mask, **chosen), over.max_length


def _chosen(written: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The blueprint's settings with those of the caller.

    Beams that are asked for replace draws, and the other way; what is written for beams goes with them, and a least
    length that is longer than what is asked for.
    """
    gone: set[str] = set()
    if settings.get("beams", 1) > 1:
        gone |= DRAWS
    elif DRAWS & settings.keys():
        gone |= {"beams", "length_penalty"}
    elif "beams" in settings:
        gone |= {"length_penalty"}
    if settings.get("max_length", written.get("min_length", 0)) < written.get("min_length", 0):
        gone |= {"min_length"}
    return {**{name: value for name, value in written.items() if name not in gone}, **settings}


def _check_search(chosen: Mapping[str, Any]) -> None:
    """Refuse what a blueprint could not say either, and beams that would have to be drawn."""
    try:
        Generate(generate="logits", over="text", **chosen)
    except ValidationError as error:
        raise UserError(f"generation: {'; '.join(_wrong(one) for one in error.errors())}") from None


def _wrong(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {text}, not {error['input']!r}" if place else text


def tensor_of(value: Any) -> Tensor:
    """The tensor that a value is about: features, scores, numbers."""
    for name in ("features", "scores", "values", "rows", "value"):
        found = getattr(value, name, None)
        if isinstance(found, Tensor):
            return found
    raise TypeError(f"{type(value).__name__} holds no tensor of its own")

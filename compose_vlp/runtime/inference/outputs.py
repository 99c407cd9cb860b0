"""Asking a trained model: its outputs by name, called with pictures and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.compiler.compile import Compiled, compile_plan
from compose_vlp.compiler.incremental import Incremental, compile_incremental
from compose_vlp.compiler.model import Model, Step
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.collate import Collator
from compose_vlp.data.fields import table_values
from compose_vlp.data.source import BadRecord
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.asked import fields_asked, inputs_asked, tables_asked, type_of_field
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.runtime.inference.asked import not_read
from compose_vlp.runtime.inference.generate import generate
from compose_vlp.runtime.inference.search import Search, no_word
from compose_vlp.runtime.inference.search_settings import begun_tokens, check_settings, chosen_settings
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import rows_of

Given: TypeAlias = Mapping[str, Sequence[Any]]
"""Values of records, lists of one length, by field."""
Tables: TypeAlias = Mapping[str, Sequence[str]]
"""Texts that stand in the place of a table's, by input."""
NO_TABLES: Final[Tables] = {}


@dataclass
class Asker:
    """A model with its blueprint and tokenizers, and the programs of the outputs that were asked for so far."""

    blueprint: CheckedBlueprint
    model: Model
    tokenizers: Mapping[str, Tokenizer]
    device: torch.device
    _values: dict[str, Compiled] = field(default_factory=dict)
    _generations: dict[str, Incremental] = field(default_factory=dict)
    _tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.tokenizers = dict(self.tokenizers)  # programs find tokens such as [DEC] by name

    def inputs_read(self, output: str) -> tuple[str, ...]:
        """List the inputs of records that a batch for an output has to have."""
        self._entry(output)
        return inputs_asked(self.blueprint, output)

    def fields_read(self, output: str) -> dict[str, tuple[str, ...]]:
        """List the fields of a record that an output is asked with, and the inputs that each of them fills."""
        self._entry(output)
        return fields_asked(self.blueprint, output)

    def types_read(self, output: str) -> dict[str, str]:
        """Tell what these fields hold: `image`, `text`, `id`, `label` or `number`."""
        return {field: type_of_field(self.blueprint, inputs) for field, inputs in self.fields_read(output).items()}

    def collator(self, inputs: Iterable[str]) -> Collator:
        """Make the collator that reads records for these inputs, as in evaluation."""
        return Collator({name: self.blueprint.inputs[name] for name in inputs}, self.tokenizers)

    def value(self, output: str, given: Given, tables: Tables = NO_TABLES) -> Tensor:
        """Compute an output that is a value: one row for each record, given as lists of one length by field.

        `tables` are texts in place of a table's, by input. An output that reads nothing of a record has the rows that
        its tables give it.

        Raises:
            UserError: no such output, or fields that are missing or not read.
        """
        batch = self.batch(output, given)
        if batch is None:
            sizes = self.blueprint.type_of(self._entry(output).ref).sizes().values()
            return torch.empty(0, *(size for size in sizes if size is not None))
        return self.value_of_batch(output, batch, tables)

    def value_of_batch(self, output: str, batch: Mapping[str, Any], tables: Tables = NO_TABLES) -> Tensor:
        """Compute the same for a batch that a loader made."""
        batch = self.with_tables(output, batch, tables)
        with evaluating(self.model), torch.no_grad():
            result = self.model(self._program(output).run, batch, Step(self.blueprint.constants_and_starts()))[output]
        return tensor_of(result)

    def texts(
        self, output: str, given: Given, tables: Tables = NO_TABLES, *, seed: int = 0, **settings: Any
    ) -> list[str]:
        """Write the texts of a `generate` output, one a record. `settings` replace the blueprint's (`beams` ...).

        Raises:
            UserError: no such output or setting, or fields that are missing or not read.
        """
        self.search(output, settings)
        batch = self.batch(output, given)
        return [] if batch is None else self.texts_of_batch(output, batch, tables, seed=seed, **settings)

    def texts_of_batch(
        self,
        output: str,
        batch: Mapping[str, Any],
        tables: Tables = NO_TABLES,
        *,
        seed: int = 0,
        cached: bool = True,
        **settings: Any,
    ) -> list[str]:
        """Write the same for a batch that a loader made."""
        ids = self.ids_of_batch(output, batch, tables, seed=seed, cached=cached, **settings)
        tokenizer = self._tokenizer(output)
        return [tokenizer.decode(row) for row in ids.tolist()]

    def ids_of_batch(
        self,
        output: str,
        batch: Mapping[str, Any],
        tables: Tables = NO_TABLES,
        *,
        seed: int = 0,
        cached: bool = True,
        **settings: Any,
    ) -> Tensor:
        """Token ids [rows, length] of a `generate` output, padded after each end; one row where nothing is read."""
        how, frame = self.search(output, settings)
        read = self.inputs_read(output)
        rows = rows_of([batch[name] for name in read]) if read else 1
        begin = self._tokenizer(output).begin_id
        assert begin is not None, "`search` looked for it"
        start = torch.full((rows, 1), begin, device=self.device)
        generator = torch.Generator(self.device).manual_seed(seed)
        kept = {name: value for name, value in batch.items() if name.partition(".")[0] in read}
        whole = self.with_tables(output, kept, tables)
        programs = self._generation(output)
        return generate(self.model, programs, whole, start, how, frame=frame, cached=cached, generator=generator)

    def batch(self, output: str, given: Given) -> dict[str, Any] | None:
        """Values for an output's inputs from lists of one length by field; None of no records at all.

        Raises:
            UserError: fields that are missing or not read, or a value that an input cannot read.
        """
        reads = self.fields_read(output)
        for name in given:
            if name not in reads:
                raise not_read(self.blueprint, output, name)
        missing = [name for name in reads if name not in given]
        if missing:
            raise UserError(f"output {output!r} needs {', '.join(missing)}")
        collator = self.collator(self.inputs_read(output))
        records = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
        if not reads:
            return {}
        if not records:
            return None
        try:
            values = collator.stack([collator.read(record) for record in records])
        except BadRecord as error:
            raise UserError(f"output {output!r} cannot be asked: {error}") from error
        return {name: value.to(self.device) for name, value in values.items()}

    def with_tables(self, output: str, batch: Mapping[str, Any], tables: Tables = NO_TABLES) -> dict[str, Any]:
        """Add to a batch the tables that an output reads, `tables` in place of those of their names."""
        values: dict[str, Any] = {}
        for name in tables_asked(self.blueprint, output):
            values |= self.table(name, tables.get(name))
        return {**batch, **values}

    def table(self, name: str, lines: Sequence[str] | None = None) -> dict[str, Any]:
        """Read the values of an input with a table, or with these lines in its place.

        Raises:
            UserError: its file is missing, or a line is no text that the model could read.
        """
        if lines is None and name in self._tables:
            return self._tables[name]
        settings = self.blueprint.inputs[name]
        assert isinstance(settings, TextInput), "tables are texts"
        try:
            values = table_values(name, settings, self.tokenizers, lines)
        except BadRecord as error:
            raise UserError(f"the table {name!r}: {error}") from error
        on_device = {key: value.to(self.device) for key, value in values.items()}
        if lines is None:
            self._tables[name] = on_device
        return on_device

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
            results = {output: self._entry(output).ref}
            self._values[output] = compile_plan(self.blueprint, "ask", results, trainable=lambda _: False)
        return self._values[output]

    def _generation(self, output: str) -> Incremental:
        if output not in self._generations:
            self._generations[output] = compile_incremental(self.blueprint, output)
        return self._generations[output]

    def check(self) -> None:
        """Look over the outputs that write texts, before any work.

        Raises:
            UserError: one could not write a word: its prompt fills its length, or its tokenizer lacks a token.
        """
        for name, entry in self.blueprint.outputs.items():
            if entry.form == "generate":
                try:
                    self.search(name, {})
                except UserError as error:
                    raise UserError(f"output {name!r}: {error}") from error

    def _tokenizer(self, output: str) -> Tokenizer:
        entry = self._entry(output)
        if entry.form != "generate" or entry.over is None:
            raise UserError(f"output {output!r} is a value, and no text is generated for it")
        settings = self.blueprint.inputs[entry.over]
        assert isinstance(settings, TextInput)
        return self.tokenizers[settings.tokenizer]

    def search(self, output: str, settings: Mapping[str, Any]) -> tuple[Search, int]:
        """Settle how an output's words are chosen, with these settings in place of the blueprint's, and its frame.

        Raises:
            UserError: no such output or setting, or one that leaves nothing to write.
        """
        entry, tokenizer = self._entry(output), self._tokenizer(output)
        over = self.blueprint.inputs[str(entry.over)]
        assert isinstance(over, TextInput), "the checker lets texts alone be generated"
        chosen = {"max_length": over.max_length, **chosen_settings(entry.settings, settings)}
        check_settings(chosen)
        if chosen["max_length"] > over.max_length:
            raise UserError(
                f"max_length {chosen['max_length']} is longer than the {over.max_length} positions of {entry.over!r}"
            )
        mask = tokenizer.mask_id if entry.settings.by == "mask" else None
        needed = {"begin": tokenizer.begin_id, "end": tokenizer.end_id}
        needed |= {"mask": mask} if entry.settings.by == "mask" else {}
        lacking = next((role for role, number in needed.items() if number is None), None)
        if lacking is not None:
            raise UserError(f"output {output!r} writes no text: its tokenizer has no {lacking} token")
        begun = begun_tokens(self.blueprint, self._generation(output), self.tokenizers, tokenizer.begin_id or 0)
        if begun >= chosen["max_length"]:
            raise no_word(chosen["max_length"], begun)
        return Search(end=tokenizer.end_id or 0, pad=tokenizer.pad_id or 0, mask=mask, **chosen), over.max_length


def tensor_of(value: Any) -> Tensor:
    """Get the tensor that a value is about: features, scores, numbers."""
    for name in ("features", "scores", "values", "rows", "value"):
        tensor = getattr(value, name, None)
        if isinstance(tensor, Tensor):
            return tensor
    raise TypeError(f"{type(value).__name__} holds no tensor of its own")

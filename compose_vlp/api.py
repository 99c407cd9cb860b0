"""The Python side of every command: load a blueprint, check, compile, report, train."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from compose_vlp.errors import BlueprintError, Problem

if TYPE_CHECKING:
    from compose_vlp.blueprint.document import Document
    from compose_vlp.building import Built
    from compose_vlp.compiler.compile import Compiled
    from compose_vlp.compiler.report import Report
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.plugins import Plugin
    from compose_vlp.run import Run
    from compose_vlp.runtime.training.listener import Listener
    from compose_vlp.runtime.training.trainer import TrainOptions


class Blueprint:
    """A blueprint after its parents and overrides. Making one reads files and runs no code of theirs."""

    def __init__(
        self,
        document: Document,
        problems: Sequence[Problem] = (),
        notes: Sequence[str] = (),
        *,
        sound: bool = True,
        plugins: Sequence[Plugin] = (),
    ) -> None:
        self.document = document
        self.problems = tuple(problems)
        self.notes = tuple(notes)
        self.plugins = tuple(plugins)
        self._sound = sound

    @classmethod
    def load(
        cls, *names: str | Path, overrides: Sequence[str] = (), plugins: Sequence[str | Path | Plugin] = ()
    ) -> Blueprint:
        """Read and merge blueprints, named or by path, with overrides as on the command line.

        Mistakes are kept and raised by `check`, together with those of the graph.

        Raises:
            UserError: a plugin that is not there, or that cannot be imported.
        """
        from compose_vlp import registry
        from compose_vlp.blueprint.resolve import resolve
        from compose_vlp.plugins import load_entry_points, loaded_from

        load_entry_points()
        own = loaded_from(plugins)
        found = resolve(
            [str(name) for name in names], list(overrides), fields_of=registry.fields_of, kinds=registry.names
        )
        return cls(found.document, found.problems, found.notes, sound=found.sound, plugins=own)

    @property
    def name(self) -> str:
        return self.document.name

    def anchored(self) -> Blueprint:
        """The same with its relative paths made absolute, from the folder in which this process stands."""
        from compose_vlp.blueprint.anchor import anchored

        document = anchored(self.document, Path.cwd())
        if document == self.document:
            return self
        return Blueprint(document, self.problems, self.notes, sound=self._sound, plugins=self.plugins)

    def raise_problems(self) -> None:
        """Raise the mistakes that reading and merging found, if there are any; `check` finds more.

        Raises:
            BlueprintError: these mistakes.
        """
        if self.problems:
            raise BlueprintError(self.problems, self.document.lines())

    @cached_property
    def _checked(self) -> CheckedBlueprint:
        from compose_vlp import registry
        from compose_vlp.graph.checking.check import check, in_order

        if not self._sound:  # what could not be read would be missed everywhere
            self.raise_problems()
        checked = check(self.document, registry, self.problems)
        from compose_vlp.runtime.training.parameters import judge_parameters

        if problems := judge_parameters(checked):
            raise BlueprintError(in_order(problems, self.document), self.document.lines())
        if checked.variants:
            from compose_vlp.compiler.tables import check_shapes

            check_shapes(checked)
        return checked

    def check(self) -> CheckedBlueprint:
        """Types, dimensions, names, rows and flow, before any weight exists.

        Raises:
            BlueprintError: all mistakes in one go, each with its place and a way to mend it.
        """
        return self._checked

    def compile(self, stage: str | None = None, *, without: Collection[str] = ()) -> dict[str, Compiled]:
        """The training program of each stage, or of one; `without` names passes to leave out.

        Raises:
            UserError: a pattern of what a stage trains names no parameter.
        """
        from compose_vlp.compiler.compile import compile_stage
        from compose_vlp.runtime.stage import stage_model

        checked = self.check()
        names = [stage] if stage else list(checked.stages)
        return {
            name: compile_stage(checked, name, trainable=stage_model(checked, name)[1], without=without)
            for name in names
        }

    def report(self, stage: str | None = None, *, batch: int = 8, without: Collection[str] = ()) -> Report:
        """Parameters, shapes, FLOPs and memory of a stage (the first, if none is named), from the meta device."""
        from compose_vlp.building import measure

        name = stage or next(iter(self.check().stages), None)
        if name is None:
            return measure(self.check(), None, None, batch)
        (compiled,) = self.compile(name, without=without).values()
        return measure(self.check(), name, compiled, batch)

    def build(
        self,
        *,
        out: str | Path | None = None,
        stage: str | None = None,
        without: Collection[str] = (),
        batch: int = 8,
        track: bool = True,
        command: Sequence[str] | None = None,
    ) -> Built:
        """Compile and measure everything on the meta device, and write plan, programs and picture into a run folder.

        Raises:
            BlueprintError: mistakes in the blueprint.
            UserError: no such stage or pass.
        """
        from compose_vlp.building import build

        at = Path(out) if out is not None else None
        said = sys.argv if command is None else command
        return build(self, out=at, stage=stage, without=without, batch=batch, track=track, command=said)

    def train(
        self,
        *,
        out: str | Path | None = None,
        options: TrainOptions | None = None,
        resume: bool = False,
        track: bool = True,
        listener: Listener | None = None,
        command: Sequence[str] | None = None,
    ) -> Run:
        """Train through all stages in a run folder (`out`, or a new one below `runs`); gives the trained model.

        Raises:
            BlueprintError: mistakes in the blueprint.
            UserError: data or weights that are not there, a checkpoint that does not fit, a loss that is not finite.
        """
        from compose_vlp.runtime.training.trainer import TrainOptions
        from compose_vlp.training import train

        return train(
            self,
            out=Path(out) if out is not None else None,
            options=options or TrainOptions(),
            resume=resume,
            track=track,
            listener=listener,
            command=list(command or sys.argv),
        )


__all__ = ["Blueprint", "BlueprintError"]

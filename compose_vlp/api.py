"""The Python side of every command: load a blueprint, check, compile, report, train."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compose_vlp.errors import BlueprintError
from compose_vlp.loading import LoadedBlueprint

if TYPE_CHECKING:
    from compose_vlp.building import Built
    from compose_vlp.compiler.compile import Compiled
    from compose_vlp.compiler.memory_plan import MemoryPlan
    from compose_vlp.compiler.report import Report
    from compose_vlp.run import Run
    from compose_vlp.runtime.training.listener import Listener
    from compose_vlp.runtime.training.trainer import TrainOptions


class Blueprint(LoadedBlueprint):
    """A blueprint after its parents and overrides. Making one reads files and runs no code of theirs.

    >>> blueprint = Blueprint.load("tiny/coca")
    >>> blueprint
    <Blueprint coca_tiny: 11 components, 2 losses>
    >>> blueprint.document.at("components", "vision", "depth").value.text
    '1'
    """

    def compile(self, stage: str | None = None, *, without: Collection[str] = ()) -> dict[str, Compiled]:
        """Compile the training program of each stage, or of one; `without` names passes to leave out.

        >>> (program,) = Blueprint.load("tiny/coca").compile().values()
        >>> program
        <Compiled pretrain: 20 calls, 8 passes>
        >>> print(program.source.splitlines()[0])
        def pretrain(root, batch, step):

        Raises:
            UserError: a pattern of what a stage trains names no parameter.
        """
        from compose_vlp.runtime.stage import compile_stages

        return compile_stages(self.check(), stage, without=without)

    def report(self, stage: str | None = None, *, batch: int = 8, without: Collection[str] = ()) -> Report:
        """Parameters, shapes, FLOPs and memory of a stage (the first, if none is named), from the meta device.

        >>> report = Blueprint.load("tiny/coca").report(batch=2)
        >>> report.parameters["total"]
        1909025
        >>> f"{report.flops['step']:.1e}"
        '9.0e+08'
        """
        from compose_vlp.building import measure

        name = stage or next(iter(self.check().stages), None)
        if name is None:
            return measure(self.check(), None, None, batch)
        (compiled,) = self.compile(name, without=without).values()
        return measure(self.check(), name, compiled, batch)

    def memory(
        self,
        stage: str | None = None,
        *,
        world: int = 1,
        batch: int | None = None,
        card: str | None = None,
        without: Collection[str] = (),
    ) -> list[MemoryPlan]:
        """Say what each of `world` processes holds in a stage's step, engine by engine, from the meta device.

        `batch` are the records of all processes, the stage's own if left out; `card` names what it is held against.

        Raises:
            UserError: no stages, processes that do not divide the batch, a card that is not known.
        """
        from compose_vlp.building import memory

        return memory(self.check(), stage, world=world, batch=batch, card=card, without=without)

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

        >>> built = Blueprint.load("tiny/coca").build(out="runs/built", track=False)
        >>> [name for name in built.files if name.startswith("graph")]
        ['graph.svg', 'graph.html']

        Raises:
            BlueprintError: mistakes in the blueprint.
            UserError: no such stage or pass.
        """
        from compose_vlp.building import build

        at = Path(out) if out is not None else None
        words = sys.argv if command is None else command
        checked = self.anchored().check()
        return build(checked, out=at, stage=stage, without=without, batch=batch, track=track, command=words)

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

        >>> short = {"stages.pretrain.length": "1 steps", "stages.pretrain.batch": 4, "data.pairs.count": 12}
        >>> run = Blueprint.load("tiny/coca", overrides=short).train(out="runs/first", track=False)
        >>> run
        <Run coca_tiny: step 1 (stage `pretrain`) of a finished run, 3 outputs>

        Raises:
            BlueprintError: mistakes in the blueprint.
            UserError: data or weights that are not there, a checkpoint that does not fit, a loss that is not finite.
        """
        from compose_vlp.run import load
        from compose_vlp.runtime.training.trainer import TrainOptions
        from compose_vlp.training import train

        options = options or TrainOptions()
        folder = train(
            self.anchored().check(),
            out=Path(out) if out is not None else None,
            options=options,
            resume=resume,
            track=track,
            listener=listener,
            command=list(command or sys.argv),
            plugins=self.plugins,
            notes=self.notes,
        )
        return load(folder.path, device=options.device)


__all__ = ["Blueprint", "BlueprintError"]

"""What can be known of a run before its first step, of all its stages: a run starts only where nothing of it is wrong.

Nothing is written and no weight is made: data is opened, vocabularies are read, and what `start` brings is held against
the model on the meta device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from compose_vlp.blueprint.inputs import ImageInput, Input, LabelInput, TextInput
from compose_vlp.blueprint.sections import EngineName, Stage
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import build
from compose_vlp.compiler.passes import refuse_unknown
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.loader import check_fields
from compose_vlp.data.source import Source
from compose_vlp.data.tables import class_names, read_table
from compose_vlp.data.usable import check_renamed, refuse_unusable
from compose_vlp.errors import BlueprintError, Problem, Span, UserError
from compose_vlp.graph.checking.check import in_order
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref
from compose_vlp.interop.start import initialiser
from compose_vlp.interop.vocabularies import TOKENIZERS, brought_vocabulary
from compose_vlp.runtime.device import choose_device
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.memory import recompute_of_stage
from compose_vlp.runtime.sources import MAIN, declared_source, open_tokenizers
from compose_vlp.runtime.stage import Scale, engine_of_stage, plan_stage, stage_steps
from compose_vlp.runtime.training.sharding import refuse_scalars
from compose_vlp.runtime.training.stage_evaluation import Measure, stage_evaluation


def look_over(
    blueprint: CheckedBlueprint,
    measure: Measure,
    *,
    world: int = 1,
    without: Sequence[str] = (),
    run: Path | None = None,
    distribute: EngineName | None = None,
) -> dict[str, dict[str, Source]]:
    """Check all that training needs; gives the opened sources of every stage, by the name that inputs give them.

    Args:
        blueprint: what is to be trained.
        measure: makes ready what stages evaluate.
        world: processes that train together.
        without: passes of the compiler that are left out.
        run: the folder of the run that goes on, whose vocabularies and weights are its own.
        distribute: how processes share the work, whatever stages say.

    Raises:
        BlueprintError: everything that is wrong, each with its place.
        UserError: `without` names no pass.
    """
    refuse_unknown(without)
    look = _Look(blueprint, measure, world, run, distribute)
    for name in blueprint.stages:
        look.stage(name, without)
    if not blueprint.stages:
        look.untrained()
    if run is None and blueprint.start:
        look.start()
    if look.problems:
        problems = in_order(dict.fromkeys(look.problems), blueprint.document)
        raise BlueprintError(problems, blueprint.document.lines())
    return look.opened


@dataclass
class _Look:
    blueprint: CheckedBlueprint
    measure: Measure
    world: int
    run: Path | None
    distribute: EngineName | None
    problems: list[Problem] = field(default_factory=list)
    opened: dict[str, dict[str, Source]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sources: dict[str, Source | None] = {}
        self.tokenizers: dict[str, Tokenizer] = {}
        with self._noting("components"):
            self.tokenizers = open_tokenizers(self.blueprint, self.run / TOKENIZERS if self.run else None)
        self.read: set[str] = set()

    def stage(self, name: str, without: Sequence[str]) -> None:
        """Numbers, data, fields, tables, words, the program and the evaluation of one stage."""
        blueprint = self.blueprint.of_stage(name)
        with self._noting("stages", name):
            compile_stage(self.blueprint, name, without=without)
        stage = blueprint.stages[name]
        named = {MAIN: stage.data} if isinstance(stage.data, str) else dict(stage.data)
        sources = {mine: source for mine, data in named.items() if (source := self._source(data)) is not None}
        inputs = self._inputs(blueprint, name)
        sources = {mine: source for mine, source in sources.items() if self._usable(named[mine], source, inputs, mine)}
        for mine, source in sources.items():
            for input_name, spec in inputs.items():
                if spec.source == mine and not (isinstance(spec, TextInput) and spec.table is not None):
                    with self._noting("inputs", input_name, "from", data=named[mine]):
                        check_fields(source, {input_name: spec.field or input_name})
        self._words(inputs)
        if self.run is None and not self.opened and len(sources) == len(named):
            self._corpora(sources)
        if not self._engine_fits(blueprint, name):
            return
        with self._noting("stages", name, "batch"):
            plan = plan_stage(blueprint, name, self.world, self.distribute)
            if len(sources) < len(named):
                return
            records = min(len(source) for source in sources.values())
            scale = Scale(records, plan.batch, stage_steps(plan.length, records, plan.batch))
            self._evaluation(blueprint, name, stage, scale)
        with self._noting(*self._where(name, "recompute")):
            recompute_of_stage(
                self.blueprint, name, processes=self.world, distribute=self.distribute, without=without
            ).refuse_excess()
        self.opened[name] = sources

    def _engine_fits(self, blueprint: CheckedBlueprint, name: str) -> bool:
        before = len(self.problems)
        with self._noting(*self._where(name, "distribute")):
            if engine_of_stage(blueprint, name, self.world, self.distribute).use != "ddp" and self.world > 1:
                refuse_scalars(build(blueprint, "meta"))
        return len(self.problems) == before

    def _where(self, stage: str, key: str) -> tuple[str, ...]:
        """Where a setting of a stage is written: there, or else at the top."""
        own = getattr(self.blueprint.stages[stage], key) is not None
        return ("stages", stage, key) if own else (key,)

    def untrained(self) -> None:
        """Check a blueprint without stages: it keeps the weights of `start`, and has no texts to learn words from."""
        name = self.blueprint.name
        if not self.blueprint.start:
            hint = "`start: [{from: FILE}]` gives it weights, so that it can be measured without being trained"
            self.problems.append(Problem(f"{name} has no stages, so there is nothing to train", None, (hint,)))
            return
        for word, tokenizer in self.tokenizers.items():
            with self._noting("components", word, "file"):
                if not tokenizer.ready and brought_vocabulary(self.blueprint, word) is None:
                    hints = [f"components.{word}.file=vocab.txt", "`start` from a run takes over the run's words"]
                    raise UserError(
                        f"{name} has no stages, so that `{word}` has no texts to learn words from", hints=hints
                    )

    def start(self) -> None:
        """Try `start` on a model that has no weights: files, formats, names and shapes are its own."""
        with self._noting("start"):
            initialiser(self.blueprint, lambda _: None)(build(self.blueprint, "meta"))

    def _source(self, name: str) -> Source | None:
        if name not in self.sources:
            self.sources[name] = None
            with self._noting("data", name, "path"):
                self.sources[name] = declared_source(self.blueprint, name)
        return self.sources[name]

    def _usable(self, name: str, source: Source, inputs: Mapping[str, Input], mine: str) -> bool:
        """Tell whether some record can be read, pictures included; what `fields` name is there, or is noted, too."""
        before = len(self.problems)
        with self._noting("data", name, "fields"):
            check_renamed(source)
        with self._noting("data", name, "path"):
            read = {
                spec.field or given
                for given, spec in inputs.items()
                if isinstance(spec, ImageInput) and spec.source == mine
            }
            refuse_unusable(source, read)
        return len(self.problems) == before

    @staticmethod
    def _inputs(blueprint: CheckedBlueprint, name: str) -> dict[str, Input]:
        """Collect the inputs that the losses of a stage read."""
        losses = [blueprint.losses[loss_name] for loss_name in blueprint.stages[name].losses]
        calls = blueprint.fragment(Ref(loss.call) for loss in losses if loss.active)
        return {call.target: blueprint.inputs[call.target] for call in calls if call.role == "input"}

    def _words(self, inputs: dict[str, Input]) -> None:
        """Tables and lists of classes are there, and vocabularies that are not learnt."""
        for name, spec in inputs.items():
            if isinstance(spec, LabelInput):
                with self._noting("inputs", name, "classes"):
                    class_names(spec)
            if not isinstance(spec, TextInput):
                continue
            if spec.table is not None:
                with self._noting("inputs", name, "table"):
                    read_table(spec)
            if spec.tokenizer in self.tokenizers and spec.tokenizer not in self.read:
                self.read.add(spec.tokenizer)
                with self._noting("components", spec.tokenizer, "file"):
                    tokenizer = self.tokenizers[spec.tokenizer]
                    if tokenizer.ready:
                        tokenizer.special  # noqa: B018 - reads the vocabulary, and looks its tokens up

    def _corpora(self, sources: Collection[str]) -> None:
        """Words that are learnt are learnt where the first stage begins: its sources have their texts."""
        for name, tokenizer in self.tokenizers.items():
            if tokenizer.ready or brought_vocabulary(self.blueprint, name) is not None:
                continue
            inputs = self.blueprint.inputs.items()
            readers = {
                reader: spec for reader, spec in inputs if isinstance(spec, TextInput) and spec.tokenizer == name
            }
            lacking = [reader for reader, spec in readers.items() if spec.table is None and spec.source not in sources]
            with self._noting("components", name):
                if not readers:
                    raise UserError(f"tokenizer `{name}` has no file, and no input with text to learn words from")
                for reader in lacking:
                    raise UserError(
                        f"tokenizer `{name}` learns its words where the first stage begins, which has no data for the "
                        f"source `{readers[reader].source}` of `{reader}`",
                        hints=[f"components.{name}.file: a vocabulary", "or data for this source in the first stage"],
                    )

    def _evaluation(self, blueprint: CheckedBlueprint, name: str, stage: Stage, scale: Scale) -> None:
        if stage.evaluate is not None:
            with self._noting("stages", name, "evaluate"):
                asker = Asker(blueprint, build(blueprint, "meta"), self.tokenizers, choose_device("cpu"))
                stage_evaluation(asker, stage, scale, self.measure)

    @contextmanager
    def _noting(self, *path: str, data: str | None = None) -> Iterator[None]:
        """Note a mistake of the user's at its own place, or else at the deepest entry of this path that is written;
        beside it whose records it is about, where they are those of `data`."""
        try:
            yield
        except UserError as error:
            span, source = self._place(path), self._place(("data", data)) if data else None
            related = ((f"these are the records of `{data}`", source),) if source else ()
            self.problems += [
                problem if problem.span else replace(problem, span=span, related=related) for problem in error.problems
            ]

    def _place(self, path: Sequence[str]) -> Span | None:
        for end in range(len(path), 0, -1):
            entry = self.blueprint.document.at(*path[:end])
            if entry is not None:
                return entry.value.span if end == len(path) and end > 2 else entry.key.span
        return None

"""What surrounds training and building: the run folder's papers, and the tracker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.readable import count
from compose_vlp.tracked import marked, open_tracker, tracking_of

if TYPE_CHECKING:
    from compose_vlp.compiler.compile import Compiled
    from compose_vlp.data.source import Source
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.picture import Numbers
    from compose_vlp.plugins import Plugin
    from compose_vlp.runtime.processes import Processes
    from compose_vlp.runtime.state.run_folder import RunFolder
    from compose_vlp.runtime.training.listener import Listener
    from compose_vlp.runtime.training.trainer import TrainOptions
    from compose_vlp.tracking.records import Ending


def train(
    checked: CheckedBlueprint,
    *,
    out: Path | None,
    options: TrainOptions,
    resume: bool,
    track: bool,
    listener: Listener | None,
    command: Sequence[str],
    plugins: Sequence[Plugin] = (),
    notes: Sequence[str] = (),
) -> RunFolder:
    """Train a blueprint in a run folder, alone or among the processes that `torchrun` started; gives the folder.

    The run carries the `plugins` with which the blueprint was read, and its log begins with the `notes` on it. The
    first process makes the folder, and alone tracks, tells the listener and says how the run ended.

    All that can be known before the first step is looked over first, of all stages; a run that does not come to it for
    a mistake leaves no folder. One that is stopped or killed before leaves a folder with which it can be started.

    Raises:
        UserError: the folder is in use, a resumed run's data is other than it was, or what `look_over` and
            `Trainer.run` raise.
        Stopped: a signal ended the run.
    """
    from compose_vlp.evaluation.results import ready
    from compose_vlp.interop.start import initialiser
    from compose_vlp.interop.vocabularies import take_vocabularies
    from compose_vlp.readiness import look_over
    from compose_vlp.runtime.device import choose_device
    from compose_vlp.runtime.processes import join_processes
    from compose_vlp.runtime.restarts import note_run
    from compose_vlp.runtime.stage import compile_stages
    from compose_vlp.runtime.state.carried import carry
    from compose_vlp.runtime.state.finished import finished_model
    from compose_vlp.runtime.state.run_folder import RunFolder
    from compose_vlp.runtime.state.tables import keep_tables
    from compose_vlp.runtime.training.listener import Silent
    from compose_vlp.runtime.training.log import LOG, Log, logged
    from compose_vlp.runtime.training.run_context import RunContext
    from compose_vlp.runtime.training.stopping import Stopping
    from compose_vlp.runtime.training.trainer import Trainer
    from compose_vlp.tracking import how_to_look

    processes = join_processes(choose_device(options.device))
    with Stopping(speaks=processes.main) as stopping:
        digests = processes.by_main(lambda: hold_to_data(checked, out if resume else None, options.changed_data))
        opened: dict[str, dict[str, Source]] = {}
        run = out if resume else None
        processes.by_main(
            lambda: opened.update(
                look_over(
                    checked,
                    ready,
                    world=processes.world,
                    without=options.without,
                    run=run,
                    distribute=options.distribute,
                )
            )
        )
        chosen_listener = listener if listener is not None and processes.main else Silent()
        artifacts: dict[str, Path] = {}

        def papers(path: Path) -> None:
            artifacts.update(prepare_folder(checked, path, compile_stages(checked), sizes(checked)))
            if plugins or not resume:
                carry(path, plugins)
            keep_tables(checked, path)
            take_vocabularies(checked, path, chosen_listener.note)

        seed = options.seed
        known = {"data": digests, "options": asdict(options), "machine": machine() | {"processes": processes.world}}
        folder = _open_folder(
            processes,
            lambda: (
                _claimed(run, papers, known)
                if run is not None
                else RunFolder.create(checked.name, seed, command, at=out, extra=known, fill=papers)
            ),
            new=not resume,
        )
        if processes.main:
            note_run(folder.path)
        log = Log(chosen_listener, folder.logs / LOG) if processes.main else None
        if log is not None:
            chosen_listener = log
        with (
            _ending(folder, processes, new=not resume) as life,
            logged(log) if log is not None else nullcontext(),
            ExitStack() as tracked,
        ):
            if log is not None:
                log.write_all(f"note: {note}" for note in notes)

            def begin() -> None:
                life.begun = True
                tracker = open_tracker(checked, folder, artifacts, track and processes.main)
                context.tracker = tracked.enter_context(tracker)
                chosen_listener.note(f"run folder: {folder.path}")
                if track and processes.main:
                    chosen_listener.note(f"its curves: {how_to_look(folder.path)}")

            initialise = initialiser(checked, chosen_listener.note)
            context = RunContext(
                checked, folder, ready, options, listener=chosen_listener, sources=opened, stopping=stopping
            )
            Trainer(context, initialise, begin).run(resume=resume)
            if processes.main and tracking_of(checked).model and (model := finished_model(checked, folder)):
                context.tracker.model(model)
    return folder


def machine() -> dict[str, Any]:
    """Say what of a machine moves the last digits of numbers, beside versions: processor, threads, capability."""
    import platform

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": device, "capability": capability, "threads": torch.get_num_threads()}


def hold_to_data(checked: CheckedBlueprint, resumed: Path | None, changed_data: bool) -> dict[str, Any]:
    """Describe the data of a run, as `run.json` keeps it; a run that is resumed is held to what it was.

    Raises:
        UserError: a checkpoint was trained on other data than there is now, and `changed_data` does not allow it.
    """
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.state.digests import as_json, data_digests, refuse_changed
    from compose_vlp.runtime.state.run_folder import RunFolder

    if resumed is not None and not changed_data:
        folder = RunFolder.open(resumed)
        if checkpoint.latest(folder.checkpoints) is not None:
            refuse_changed(checked, folder.info.extra.get("data", {}))
    return as_json(data_digests(checked))


@dataclass
class _Life:
    """Whether a run has come to its first step."""

    begun: bool = False


@contextmanager
def _ending(folder: RunFolder, processes: Processes, *, new: bool) -> Iterator[_Life]:
    """Whatever happens within, the run's folder says how it ended; a new one that failed to begin is taken away."""
    ending: Ending = "FAILED"
    life = _Life()
    try:
        yield life
        ending = "FINISHED"
    except KeyboardInterrupt:
        ending, new = "KILLED", False  # it can be started from its folder
        raise
    finally:
        if processes.main:
            if new and not life.begun:
                folder.take_away()
            else:
                folder.finish(ending)


def _open_folder(processes: Processes, claim: Callable[[], RunFolder], *, new: bool) -> RunFolder:
    """Open the run's folder: made or claimed by the first process, read by the others, which all have to see it.

    Raises:
        UserError: a machine does not see it; one that was made is taken away again.
    """
    from compose_vlp.runtime.state.divided import refuse_unseen
    from compose_vlp.runtime.state.run_folder import RunFolder

    claimed: list[RunFolder] = []

    def path() -> Path:
        claimed.append(claim())
        return claimed[0].path.absolute()

    there = processes.by_main(path)
    try:
        refuse_unseen(there / "checkpoints", processes)
    except UserError:
        for folder in claimed:
            if new:
                folder.take_away()
            else:
                folder.finish("FAILED")
        raise
    return claimed[0] if claimed else RunFolder.open(there)


def _claimed(path: Path, fill: Callable[[Path], None], extra: Mapping[str, Any]) -> RunFolder:
    """Claim the folder of a run that goes on, with what it begins with as it is now."""
    from compose_vlp.runtime.state.run_folder import RunFolder

    folder = RunFolder.open(path)
    folder.claim()
    try:
        fill(folder.path)
        folder.update(**extra)
    except BaseException:
        folder.finish("FAILED")
        raise
    return folder


def prepare_folder(
    checked: CheckedBlueprint, folder: Path, stages: Mapping[str, Compiled], numbers: Numbers
) -> dict[str, Path]:
    """Write the resolved blueprint, plans, programs and the picture of the graph into a run's folder.

    Gives the files, relative to the folder, by the names that they have in tracking.
    """
    from compose_vlp.blueprint.write import write
    from compose_vlp.compiler.plan_json import plan_json
    from compose_vlp.picture import diagram_of, page, svg
    from compose_vlp.runtime.state.new_folder import ARTIFACTS

    diagram = diagram_of(checked, numbers)
    plans = {name: plan_json(compiled.plan) for name, compiled in stages.items()}
    papers = {
        "blueprint.yaml": write(marked(checked.document)),
        "plan.json": json.dumps({"blueprint": plan_json(checked.plan), "stages": plans}, indent=1, ensure_ascii=False),
        "graph.svg": svg(diagram),
        "graph.html": page(diagram),
    }
    papers |= {f"programs/{name}.py": source for name, source in program_sources(checked, stages).items()}
    written = {}
    for name, text in papers.items():
        written[name] = Path(name if name == "blueprint.yaml" else f"{ARTIFACTS}/{name}")
        (folder / written[name]).parent.mkdir(exist_ok=True)
        write_atomic(folder / written[name], text, durable=False)
    return written


def sizes(checked: CheckedBlueprint) -> Numbers:
    """Parameters and adapted maps by component, for the picture."""
    from compose_vlp.compiler.model import build
    from compose_vlp.picture import Numbers

    model = build(checked, "meta")
    by_component = model.component_parameters()
    return Numbers(by_component, (("parameters", count(sum(by_component.values()))),), model.adapted())


def parameter_counts(checked: CheckedBlueprint) -> dict[str, int]:
    """Count the numbers of each parameter, by its path."""
    from compose_vlp.compiler.model import build
    from compose_vlp.runtime.optimizer import parameter_paths

    return {path: parameter.numel() for path, parameter in parameter_paths(build(checked, "meta").parts()).items()}


def program_sources(checked: CheckedBlueprint, stages: Mapping[str, Compiled]) -> dict[str, str]:
    """Write the source of every stage, of all outputs that are values, and of each that writes or ranks texts."""
    from compose_vlp.compiler.compile import compile_outputs
    from compose_vlp.compiler.incremental import compile_incremental, compile_prepared

    sources = {name: compiled.source for name, compiled in stages.items()}
    plain = [name for name, output in checked.outputs.items() if output.form == "value"]
    if plain:
        sources["outputs"] = compile_outputs(checked, plain).source
    for name, output in checked.outputs.items():
        if output.form == "generate":
            sources[f"outputs.{name}"] = compile_incremental(checked, name).source
        elif output.form == "rank":
            sources[f"outputs.{name}"] = compile_prepared(checked, name).source
    return sources

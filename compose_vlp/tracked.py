"""What tracking has of a run beside its metrics: settings, data sets, tags, a description, and its files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from compose_vlp.blueprint.document import DRAFT, Document
from compose_vlp.blueprint.nodes import Entry, Node, Scalar
from compose_vlp.blueprint.plain import guess, leaves
from compose_vlp.blueprint.sections import Evaluate, Stage, Tracking
from compose_vlp.blueprint.trees import put
from compose_vlp.errors import Span
from compose_vlp.tracking import DataSet, NullTracker, OutboxTracker, Tracker, TrackSettings, environment_tags

if TYPE_CHECKING:
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.runtime.state.run_folder import RunFolder

PROGRAM: Final = "compose-vlp"
_NO_SETTINGS: Final = ("name", "title", "paper", "tracking")
"""Sections that change no model and no training."""
HYBRIDS: Final = "hybrids"
"""The folder of blueprints that put parts of one paper into another."""
HYBRID_KEY: Final = "x-hybrid"
"""Says the same where a document was resolved, so that its files are no longer known."""
FACTOR: Final = "x-factor-"
"""Begins a sweep's keys for what it varies."""


def open_tracker(checked: CheckedBlueprint, folder: RunFolder, artifacts: Mapping[str, Path], track: bool) -> Tracker:
    """Start tracking a run and tell all that is known at its beginning; nobody listens where tracking is off.

    `artifacts` are files of the run's folder, relative to it, by the names that they have in tracking.
    """
    if not track:
        return NullTracker()
    from compose_vlp.runtime.state.digests import data_digests

    written, document = tracking_of(checked), checked.document
    settings = TrackSettings(
        experiment=written.experiment or checked.name,
        run_name=written.run_name or folder.path.name,
        uri=written.uri,
        system_metrics_s=written.system_metrics_s,
        parent=written.parent,
    )
    tracker = OutboxTracker.start(folder.path, settings)
    digests = data_digests(checked)
    known = {"blueprint": checked.name, "seed": str(folder.info.seed)}
    known |= {f"data.{name}": str(digest) for name, digest in digests.items()}
    known["mlflow.note.content"] = description(checked, folder)
    tracker.tags({**environment_tags(), **own_tags(document), **known})
    tracker.params({"seed": folder.info.seed, **factors_of(document), **settings_of(document)})
    entries = document.section("data")
    tracker.data_sets(
        [
            DataSet(
                name,
                digest.contents,
                digest.use,
                json.dumps(guess(entries.get(name) or entries), ensure_ascii=False),
                context,
            )
            for name, digest in digests.items()
            for context in _contexts(checked.stages.values(), name)
        ]
    )
    tracker.artifacts({name: folder.path / file for name, file in artifacts.items()})
    return tracker


def settings_of(document: Document) -> dict[str, Any]:
    """List every resolved setting by its path, such as `stages.pretrain.batch`: what MLflow compares runs by."""
    values: dict[str, Any] = {}
    for entry in document.root:
        if entry.name not in _NO_SETTINGS and not entry.name.startswith(DRAFT):
            values |= leaves(guess(entry.value), entry.name)
    return {
        path: json.dumps(value) if value is None or isinstance(value, bool) else value for path, value in values.items()
    }


def own_tags(document: Document) -> dict[str, str]:
    """Read a blueprint's keys that begin with `x-`, its paper, and whether it is a hybrid.

    Text is as it is written, anything nested is JSON.
    """
    tags = {entry.name: _tag(entry.value) for entry in document.root if entry.name.startswith(DRAFT)}
    paper = {"paper": document.text("paper")} if document.text("paper") else {}
    return {**tags, **paper, "hybrid": str(is_hybrid(document)).lower()}


def is_hybrid(document: Document) -> bool:
    """Tell whether a part of the document stands in a folder of hybrids, or says itself that it is one."""
    return any(HYBRIDS in Path(file).parts[:-1] for file in document.files) or document.text(HYBRID_KEY) == "true"


def marked(document: Document) -> Document:
    """A hybrid's document with a key that says so: once it is written, the files that it came from are forgotten."""
    if not is_hybrid(document) or HYBRID_KEY in document.root:
        return document
    span = Span(document.root.span.file, 0, 1, 2)
    key = Entry(Scalar(HYBRID_KEY, span), Scalar("true", span))
    return replace(document, root=put(document.root, (HYBRID_KEY,), key))


def factors_of(document: Document) -> dict[str, str]:
    """Read the level of each factor that a sweep gave the run, as parameters `factor.NAME`."""
    return {
        f"factor.{entry.name.removeprefix(FACTOR)}": _tag(entry.value)
        for entry in document.root
        if entry.name.startswith(FACTOR)
    }


def description(checked: CheckedBlueprint, folder: RunFolder) -> str:
    """Write what the run's page in MLflow says of it, in Markdown."""
    document = checked.document
    title, paper = document.text("title") or checked.name, document.text("paper")
    where = f" ([paper]({paper}))" if paper.startswith("https://") else ""
    lines = [f"**{title}**{where}: blueprint `{checked.name}`, seed {folder.info.seed}.", ""]
    for name, stage in checked.stages.items():
        losses = ", ".join(stage.losses or checked.losses)
        lines.append(f"- stage `{name}`: {losses} on {' and '.join(_trained_on(stage))}")
    lines += ["", "```", command_line(folder.info.command), "```", ""]
    lines.append("Among its files: the graph (`graph.svg`), the resolved blueprint, and the steps as programs.")
    return "\n".join(lines)


def command_line(words: Sequence[str]) -> str:
    """Write a command as it can be typed, however Python was started."""
    return shlex.join([PROGRAM, *words[1:]]) if words else ""


def tracking_of(checked: CheckedBlueprint) -> Tracking:
    """Read the blueprint's section `tracking`, or its defaults."""
    settings = checked.settings.get("tracking")
    return settings if isinstance(settings, Tracking) else Tracking()


def _tag(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else json.dumps(guess(node), ensure_ascii=False)


def _trained_on(stage: Stage) -> list[str]:
    return [stage.data] if isinstance(stage.data, str) else list(stage.data.values())


def _contexts(stages: Collection[Stage], data: str) -> list[str]:
    """Say what an entry of `data` is read for: training, evaluation, or both; a part of a mixture is for training."""
    measured = any(isinstance(stage.evaluate, Evaluate) and stage.evaluate.data == data for stage in stages)
    trained = any(data in _trained_on(stage) for stage in stages)
    return [*(["training"] if trained or not measured else []), *(["evaluation"] if measured else [])]

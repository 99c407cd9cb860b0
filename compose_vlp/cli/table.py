"""What commands there are. Kept as a table, so that `--help` imports none of them; a test compares it with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROGRAM: Final = "compose-vlp"


@dataclass(frozen=True)
class Entry:
    """A command: the panel that it stands in, and the first line of its help."""

    name: str
    panel: str
    summary: str

    @property
    def module(self) -> str:
        return f"compose_vlp.cli.commands.{self.name}"


COMMANDS: Final = (
    Entry("check", "Look", "Find every mistake of a blueprint before anything is built."),
    Entry("show", "Look", "Print a blueprint as merged, with where each value came from."),
    Entry("diff", "Look", "Compare what two blueprints mean."),
    Entry("blueprints", "Look", "List the built-in blueprints, or tell of one."),
    Entry("components", "Look", "List the kinds of components, or explain one."),
    Entry("new", "Look", "Write a commented file to start from, which checks at once."),
    Entry("runs", "Look", "List trained runs with their scores, the latest first."),
    Entry("data", "Look", "Look a data set over, and see what a model will see of it."),
    Entry("schema", "Look", "Write the JSON Schema by which editors check blueprints."),
    Entry("doctor", "Look", "Say what this machine offers and which backends run on it."),
    Entry("build", "Build", "Compile a blueprint: sizes, shapes, FLOPs, code, picture."),
    Entry("bench", "Build", "Time whole optimiser steps here, with and without passes."),
    Entry("verify", "Build", "Prove that a port gives the same numbers as the original."),
    Entry("train", "Train", "Train a blueprint, or go on with a run."),
    Entry("reproduce", "Train", "Train a finished run again and compare what comes of it."),
    Entry("sweep", "Train", "Train a blueprint with parts exchanged, fairly, seed by seed."),
    Entry("demo", "Train", "Train a small model in minutes and show what it learnt."),
    Entry("track", "Train", "Send what a run recorded while its MLflow was away."),
    Entry("evaluate", "Use", "Measure a trained model: retrieval, captions, zero-shot."),
    Entry(
        "compare",
        "Use",
        "Compare trained runs: scores, differences, cost, settings.",
    ),
    Entry("report", "Use", "Report a sweep: differences, effects, cost, as a page."),
    Entry("generate", "Use", "Write captions for pictures with a trained model."),
    Entry("explain", "Use", "Show where in a picture a model sees what a text says."),
    Entry("export", "Use", "Write a model as one file, or as a folder of another library."),
    Entry("serve", "Use", "Serve a page on which a trained model is tried on pictures."),
    Entry("capfilt", "Use", "Caption pictures of the web, and keep the texts that fit."),
)

BY_NAME: Final = {entry.name: entry for entry in COMMANDS}

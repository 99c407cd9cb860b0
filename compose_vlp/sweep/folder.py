"""The folder of a sweep, and in it the folder of each run: what is to be done, what was done, how it ended.

```
sweep.json            the design: cells, seeds, and where the run of each is
trials/NAME-seed0-DIGEST/
  trial.json          what to train and to measure
  blueprint.yaml      resolved
  run/                the run, as `compose-vlp train` leaves it
  scores-DIGEST.json  what was measured
  output.log          what training and measuring said
  failed.json         how often it failed, and of what
  cause.json          what the last command that failed said, as `torchrun` has it
```
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from compose_vlp.errors import UserError
from compose_vlp.files import ProcessLock, write_atomic

SWEEP_FILE: Final = "sweep.json"
TRIAL_FILE: Final = "trial.json"
FORMAT: Final = 1
TAIL: Final = 12
"""Last lines of its output that tell why a run failed."""


@dataclass(frozen=True)
class TrialSettings:
    """What a run is to do, as `trial.json` has it.

    Attributes:
        cell: The cell's name in the sweep that began it.
        levels: Its levels there.
        seed: Of everything random.
        digest: Of what it computes.
        train: Options of `compose-vlp train`.
        evaluate: Words and options of `compose-vlp evaluate`.
        device: Of both, as the commands take it.
        directory: Where both are run; paths that they make begin there.
        environment: Variables of both, such as the number of threads.
        minutes: What it may take, where that decides its length; of `stage`.
        gpus: Processes of one run, one a GPU, where there are several.
    """

    cell: str
    levels: Mapping[str, str]
    seed: int
    digest: str
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    device: str = "auto"
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    minutes: float | None = None
    stage: str | None = None
    gpus: int = 1


class TrialFolder:
    """One run of a sweep on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def blueprint(self) -> Path:
        return self.path / "blueprint.yaml"

    @property
    def output(self) -> Path:
        """Return the file of what training and measuring printed."""
        return self.path / "output.log"

    @property
    def lock(self) -> ProcessLock:
        """Held by the process that works on it."""
        return ProcessLock(self.path / "trial.lock")

    @property
    def settings(self) -> TrialSettings:
        """Read what is to be done.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / TRIAL_FILE
        try:
            read = json.loads(file.read_text())
            return TrialSettings(**read | {name: tuple(read[name]) for name in ("train", "evaluate")})
        except (ValueError, KeyError, TypeError) as error:
            hint = "delete it: the sweep's command writes it anew"
            raise UserError(f"{file} is damaged: {error}", hints=(hint,)) from error

    def write(self, settings: TrialSettings, blueprint: str) -> None:
        """Say what is to be done; a run that has begun keeps its blueprint and its environment."""
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / TRIAL_FILE).is_file():
            before = self.settings
            settings = replace(settings, environment=before.environment)
        if not self.blueprint.is_file():
            write_atomic(self.blueprint, blueprint)
        write_atomic(self.path / TRIAL_FILE, json.dumps(asdict(settings), indent=2) + "\n")

    def scores_file(self, evaluate: tuple[str, ...]) -> Path:
        """Name the file that keeps what these words of `evaluate` measure."""
        digest = hashlib.sha256(json.dumps(evaluate).encode()).hexdigest()[:8]
        return self.path / f"scores-{digest}.json"

    @property
    def measured(self) -> dict[str, Any] | None:
        """Read what `evaluate --json` printed; None where it has not been measured."""
        return read_json(self.scores_file(self.settings.evaluate))

    def scores(self, evaluate: Sequence[str] | None = None) -> dict[str, float] | None:
        """The numbers that these words of `evaluate` measured, by name; those of the last sweep's words if left out."""
        measured = self.measured if evaluate is None else read_json(self.scores_file(tuple(evaluate)))
        if measured is None:
            return None
        return {name: math.nan if value is None else float(value) for name, value in measured["scores"].items()}

    def fail(self, reason: str) -> None:
        """Note that it failed once more."""
        write_atomic(self.path / "failed.json", json.dumps({"times": self.failures + 1, "reason": reason}))

    @property
    def failures(self) -> int:
        return int((read_json(self.path / "failed.json") or {"times": 0})["times"])

    @property
    def reason(self) -> str:
        """Why it failed last; empty where it did not."""
        return str((read_json(self.path / "failed.json") or {"reason": ""})["reason"])

    def tail(self) -> str:
        """The last lines of what it printed."""
        if not self.output.is_file():
            return ""
        lines = [line.rstrip() for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join(lines[-TAIL:])


@dataclass(frozen=True)
class KnownCell:
    """A cell as `sweep.json` has it.

    Attributes:
        levels: The level of each factor.
        words: The command line that means the same.
        identity: What it computes.
        trials: The folder of each seed's run, relative to the sweep's.
        parameters: Of its model.
        flops_per_step: By stage; None where they cannot be counted.
    """

    levels: dict[str, str]
    words: tuple[str, ...]
    identity: dict[str, str]
    trials: dict[str, str] = field(default_factory=dict)
    parameters: int | None = None
    flops_per_step: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownSweep:
    """What `sweep.json` says: the design as it was when the sweep last ran."""

    format: int
    name: str
    question: str
    factors: dict[str, list[str]]
    design: str
    seeds: list[int]
    budget: str
    measure: dict[str, Any]
    cells: dict[str, KnownCell]
    left_out: list[str] = field(default_factory=list)
    evaluate: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


class SweepFolder:
    """A sweep on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lock(self) -> ProcessLock:
        return ProcessLock(self.path / "sweep.lock")

    @property
    def study(self) -> Path:
        """The database of a search."""
        return self.path / "study.db"

    def begin_study_anew(self) -> None:
        """Put the database of a search aside, and keep it."""
        if self.study.is_file():
            others = len(list(self.path.glob("study~*.db")))
            self.study.rename(self.path / f"study~{others + 1}.db")

    def known(self) -> KnownSweep | None:
        """Read the sweep as it was when it last ran; None where it never did.

        Raises:
            UserError: the file is damaged, or of a later version.
        """
        file = self.path / SWEEP_FILE
        if not file.is_file():
            return None
        try:
            read = json.loads(file.read_text())
            if read["format"] > FORMAT:
                raise UserError(f"{file} was written by a later version of compose-vlp (format {read['format']})")
            cells = {name: KnownCell(**cell | {"words": tuple(cell["words"])}) for name, cell in read["cells"].items()}
            return KnownSweep(**read | {"cells": cells})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "delete it: the sweep's command writes it anew, and finds the runs that it has trained"
            raise UserError(f"{file} is damaged: {error}", hints=(hint,)) from error

    def write(self, known: KnownSweep) -> None:
        write_atomic(self.path / SWEEP_FILE, json.dumps(asdict(known), indent=2) + "\n")

    def trial(self, cell: str, seed: int, digest: str, *, again: bool = False) -> TrialFolder:
        """The folder of a run: one that computes the same, of this sweep or of another beside it, or a new one.

        Of another sweep, only one that was trained to its end counts. With `again` it is new, and what was in its place
        is kept beside it.
        """
        own = self.path / "trials" / f"{_slug(cell)}-seed{seed}-{digest}"
        if again:
            if own.is_dir():
                own.rename(own.with_name(f"{own.name}~{len(list(own.parent.glob(f'{own.name}~*'))) + 1}"))
            return TrialFolder(own)
        mine = sorted((self.path / "trials").glob(f"*-{digest}"))
        others = sorted(self.path.parent.glob(f"*/trials/*-{digest}"))
        finished = [path for path in others if (read_json(path / "run" / "run.json") or {}).get("status") == "FINISHED"]
        return TrialFolder(next(iter([*mine, *finished]), own))


def read_json(file: Path) -> dict[str, Any] | None:
    """A JSON document; None where there is none, or only a part of one."""
    try:
        read: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return read


def _slug(name: str) -> str:
    """A name as a folder's: short, and of characters that every file system has."""
    return re.sub(r"[^\w.-]+", "_", name)[:60].strip("_.") or "cell"

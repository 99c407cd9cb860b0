"""How far the sender is: a small file that it alone writes, and the training process may read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compose_vlp.files import write_atomic


@dataclass
class SenderState:
    """The state of the sender: what has arrived in MLflow.

    Attributes:
        run_id: The run in MLflow, once it exists, and the experiment it is in.
        sent: For each outbox file, the byte up to which everything has arrived.
        status: The run's status as MLflow has it.
        refused: How many records MLflow would not take.
        problem: Why nothing arrives just now.
        deferred: Artifacts that could not be sent so far: name and path.
        artifact_problem: Why not.
        models: The finished model's key in MLflow by the step of its weights: what is measured at that step is of it.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    sent: dict[str, int] = field(default_factory=dict)
    status: str | None = None
    refused: int = 0
    problem: str | None = None
    deferred: dict[str, str] = field(default_factory=dict)
    artifact_problem: str | None = None
    models: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> SenderState:
        """The state in a file. A missing or damaged file is a fresh start: MLflow is asked what it has."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Not forced to disk: what a power cut takes of it is found again by asking MLflow."""
        write_atomic(path, json.dumps(asdict(self)), durable=False)

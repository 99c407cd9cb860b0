"""Which weights of a run were loaded, and how the run stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.manifest import read_manifest
from compose_vlp.runtime.state.run_folder import RunFolder, RunStatus

WORDS: Final[dict[RunStatus, str]] = {
    "FINISHED": "finished",
    "KILLED": "stopped",
    "FAILED": "failed",
    "RUNNING": "running",
}


@dataclass(frozen=True)
class Weights:
    """A checkpoint of a run: `step` counts all steps of the run, `stage` is the one that it was saved in.

    `status` is that of the run: finished, stopped (by somebody), failed, or running still.
    """

    checkpoint: str
    step: int
    stage: str
    status: str

    @property
    def whole(self) -> bool:
        """Tell whether the run came to its end."""
        return self.status == "finished"

    def __str__(self) -> str:
        stands = {
            "finished": "of a finished run",
            "stopped": "of a run that was stopped",
            "failed": "of a run that failed",
        }
        return f"step {self.step} (stage `{self.stage}`) {stands.get(self.status, 'of a run that is not at its end')}"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def weights_of(path: Path, folder: RunFolder) -> Weights:
    """Describe what the checkpoint at `path` is, of the run in `folder`."""
    progress = checkpoint.load(path, only=("progress",))["progress"]
    return Weights(path.name, read_manifest(path).step, progress["trained"], WORDS[folder.info.status])

"""What a stage came to: steps, time, waiting for input, records that were left out."""

from __future__ import annotations

from dataclasses import dataclass

from compose_vlp.readable import duration, several
from compose_vlp.runtime.training.loop import StepReport


@dataclass
class Summary:
    """Of the steps that this process did, in seconds; a run that went on counts from there.

    `peak_memory` is in bytes: the most that the process held, or of its GPU, where it trains on one.
    """

    stage: str
    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    first_wait: float = 0.0
    skipped: int = 0
    peak_memory: int = 0

    def add(self, report: StepReport) -> None:
        """One more step. The first batch is waited for in any case, and is counted by itself."""
        if not self.steps:
            self.first_wait = report.waiting
        else:
            self.waiting += report.waiting
        self.steps += 1
        self.seconds += report.seconds

    @property
    def waiting_share(self) -> float:
        """Share of the steps' time in which the next batch was not there."""
        return self.waiting / max(self.seconds - self.first_wait, 1e-9)

    def text(self) -> str:
        """In one line, for people."""
        skipped = f", {self.skipped} broken record{'s'[: self.skipped > 1]} left out" if self.skipped else ""
        return (
            f"stage {self.stage}: {several(self.steps, 'step')} in {duration(self.seconds)}, "
            f"{self.waiting_share:.1%} of it waiting for input{skipped}"
        )

    def as_json(self) -> dict[str, float]:
        """For the run's `run.json`."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "waiting_share": round(self.waiting_share, 5),
            "skipped": self.skipped,
            "peak_memory": self.peak_memory,
        }

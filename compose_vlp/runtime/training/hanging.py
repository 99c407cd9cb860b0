"""Which process of a run the others wait for in vain: judged from what each says of where it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

from compose_vlp.readable import duration, several

NAMED: Final = 4
"""So many processes are named, and the rest counted."""


class Doing(IntEnum):
    """What a process does in a step, in the order in which it does it, and what takes as long as it takes."""

    ENDING_THE_STEP = 0
    READING_DATA = 1
    COMPUTING = 2
    MAKING_READY = 3
    EVALUATING = 4
    SAVING = 5
    DONE = 6

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ")


BUSY: Final = (Doing.MAKING_READY, Doing.EVALUATING, Doing.SAVING)
"""What one process may do for hours while the others wait."""


@dataclass(frozen=True)
class Sign:
    """What a process says of itself: after how many `step`s of the run it is, what it does, and where in the code.

    `beat` counts the signs that it gave, so that they can be told apart without its clock.
    """

    beat: int
    step: int
    doing: Doing
    host: str
    code: str

    @property
    def place(self) -> tuple[int, Doing]:
        return self.step, self.doing

    def packed(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def unpacked(cls, text: str | bytes) -> Sign:
        fields = json.loads(text)
        return cls(**{**fields, "doing": Doing(fields["doing"])})


@dataclass(frozen=True)
class Seen:
    """What another process saw of process `rank`: for how many seconds it gave no sign, and got no further."""

    rank: int
    sign: Sign
    silent: float
    still: float


def hanging(seen: Sequence[Seen], seconds: float) -> list[Seen]:
    """Find those for whom all have waited longer than `seconds`; all of them, where none is behind the others.

    One that gives no sign hangs whatever it does. One that gives signs is judged by its place, and only while nobody
    evaluates, saves or makes a stage ready, for which the others rightly wait.
    """
    at_work = [process for process in seen if process.sign.doing != Doing.DONE]
    if silent := [process for process in at_work if process.silent > seconds]:
        return silent
    if not at_work or any(process.sign.doing in BUSY for process in at_work):
        return []
    last = min(process.sign.place for process in at_work)
    behind = [process for process in at_work if process.sign.place == last]
    return behind if min(process.still for process in behind) > seconds else []


def in_words(processes: Sequence[Seen], world: int, seconds: float) -> str:
    """Name the processes that hang, each with its machine, and with what it is doing."""
    named = [_account(process, seconds) for process in processes[:NAMED]]
    if more := len(processes) - NAMED if len(processes) > NAMED else 0:
        named.append(f"and {several(more, 'more process')}")
    every = "none of the processes gets any further: " if len(processes) == world > 1 else ""
    return every + "; ".join(named)


def _account(process: Seen, seconds: float) -> str:
    sign = process.sign
    who = f"process {process.rank} on {sign.host}"
    where = f"{sign.doing.words}, after {several(sign.step, 'step')} of the run (in {sign.code})"
    if process.silent > seconds:
        return f"{who} has given no sign for {duration(process.silent)}, and was last {where}"
    return f"{who} has not got further for {duration(process.still)}: {where}"

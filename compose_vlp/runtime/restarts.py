"""Runs that go on by themselves: what `torchrun --max-restarts` starts again finds the run that it was working on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from compose_vlp.runtime.processes import agent_store
from compose_vlp.runtime.state.new_folder import RUN_FILE

_KEY: Final = "compose-vlp/run"


def note_run(path: Path) -> None:
    """Tell the store that outlives the processes which run they work on, where `torchrun` keeps one."""
    store = agent_store()
    if store is not None:
        store.set(_KEY, str(path.absolute()))


def run_before_restart(out: Path | None) -> Path | None:
    """Find the run that these processes worked on before they were started again; None where they had begun none.

    `out` is the folder that the command names, which is the run's where the store is gone.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    store = agent_store()
    noted = Path(store.get(_KEY).decode()) if store is not None and store.check([_KEY]) else None
    return next((path for path in (noted, out) if path is not None and (path / RUN_FILE).is_file()), None)

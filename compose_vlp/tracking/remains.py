"""What has not reached MLflow, in words, with the command that sends it."""

from __future__ import annotations

import shlex

from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.outbox import count_lines
from compose_vlp.tracking.state import SenderState


def remains(folder: TrackFolder, lost: int = 0) -> str | None:
    """A message where something has not arrived, None where all has.

    Args:
        folder: The run's tracking files.
        lost: Lines that the disk had no room for.
    """
    state = SenderState.read(folder.state)
    waiting = sum(count_lines(path, state.sent.get(path.name, 0)) for path in (folder.outbox, folder.system))
    waiting += len(state.deferred)
    messages: list[str] = []
    if waiting:
        messages.append(_waiting(folder, state, waiting))
    if lost:
        messages.append(f"{_records(lost)} could not be written to disk and are lost: is it full?")
    if state.refused:
        messages.append(f"MLflow refused {_records(state.refused)}; which, and why, is in {folder.refused}")
    return "\n".join(messages) or None


def _waiting(folder: TrackFolder, state: SenderState, count: int) -> str:
    target = folder.read_target()
    where = f"MLflow at {target.uri}" if target else "MLflow"
    reason = state.problem or state.artifact_problem or _last_words(folder)
    because = f" ({reason})" if reason else ""
    verb = "has" if count == 1 else "have"
    command = f"compose-vlp track sync {shlex.quote(str(folder.run_folder))}"
    kept = f"What remains is kept in {folder.path}; send it with: {command}"
    return f"{_records(count)} {verb} not reached {where}{because}\n{kept}"


def _last_words(folder: TrackFolder) -> str | None:
    """The last line of the sender's log that is no remark: why it died, where it did."""
    if not folder.log.is_file():
        return None
    written = folder.log.read_text(errors="replace").strip().splitlines()
    lines = [line for line in written if " INFO " not in line]
    return lines[-1][:300] if lines else None


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"

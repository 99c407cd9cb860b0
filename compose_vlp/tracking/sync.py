"""Sending later what did not arrive, and finding what did."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from compose_vlp.errors import UserError
from compose_vlp.tracking.layout import Target, TrackFolder, TrackSettings, sqlite_path
from compose_vlp.tracking.outbox import has_ended
from compose_vlp.tracking.remains import remains
from compose_vlp.tracking.state import SenderState


def sync(run_folder: Path) -> str:
    """Send what remains of a run to MLflow, and say what happened (`compose-vlp track sync RUN`).

    A run that ended without a word is marked FAILED. One that MLflow never heard of goes to `MLFLOW_TRACKING_URI`
    where that is set, since a wrong address may be why.

    Raises:
        UserError: The run was never tracked, or something still does not arrive.
    """
    folder = TrackFolder(run_folder)
    target = folder.read_target()
    if target is None:
        raise UserError(f"the run in {run_folder} was not tracked: there is nothing to send")
    lock = folder.sender_lock
    if not lock.try_acquire():
        return f"a process is sending the run in {run_folder} just now"
    try:
        target = _readdressed(folder, target)
        done = _send(folder, target)
    finally:
        lock.release()
    message = remains(folder)
    if not done:
        raise UserError(message or "the run did not arrive in MLflow")
    return "\n".join(part for part in (message, f"everything is in MLflow: {how_to_look(run_folder)}") if part)


def how_to_look(run_folder: Path) -> str:
    """The command or address that shows a run in MLflow."""
    folder = TrackFolder(run_folder)
    target = folder.read_target()
    if target is None:
        raise UserError(f"the run in {run_folder} was not tracked")
    state = SenderState.read(folder.state)
    place = f"#/experiments/{state.experiment_id}/runs/{state.run_id}" if state.run_id else ""
    if target.uri.startswith(("http://", "https://")):
        return f"{target.uri.rstrip('/')}/{place}"
    return f"mlflow ui --backend-store-uri {target.uri}" + (f", then http://127.0.0.1:5000/{place}" if place else "")


def _readdressed(folder: TrackFolder, target: Target) -> Target:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address or address == target.uri or SenderState.read(folder.state).run_id is not None:
        return target
    target = replace(target, uri=address)
    folder.write_target(target)
    return target


def _send(folder: TrackFolder, target: Target) -> bool:
    from compose_vlp.tracking.mlflow_store import be_brief
    from compose_vlp.tracking.sender import Sender

    be_brief()
    still_training = folder.writer_lock.is_held() and not has_ended(folder.outbox)
    return Sender(folder, target, is_over=lambda: True).run(is_running=still_training)


def mlflow_run_id(run_folder: Path) -> str | None:
    """The MLflow run of a run folder, as far as it is known here."""
    return SenderState.read(TrackFolder(run_folder).state).run_id


def tracked_folder(run_id: str, working_directory: Path | None = None) -> Path | None:
    """The run folder of an MLflow run, as MLflow remembers it; None where it knows no such run.

    Raises:
        UserError: MLflow cannot be asked.
    """
    directory = working_directory or Path.cwd()
    uri = TrackSettings("", "", working_directory=directory).resolved_uri()
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        return None
    from compose_vlp.tracking.mlflow_store import FAILURES, be_brief, folder_of_run

    be_brief()
    try:
        return folder_of_run(uri, run_id)
    except FAILURES as error:
        raise UserError(f"cannot ask MLflow at {uri} for run {run_id}: {error}") from error

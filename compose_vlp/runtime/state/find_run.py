"""From what a user calls a run, a run folder or an id of MLflow's, to its folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from compose_vlp.errors import UserError, nearest
from compose_vlp.runtime.state.new_folder import RUN_FILE
from compose_vlp.runtime.state.run_folder import RunFolder, run_folders
from compose_vlp.tracking import mlflow_run_id, tracked_folder

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_run(run: str | Path, root: Path = Path("runs")) -> RunFolder:
    """Find the run that `run` means: the path of its folder, or its MLflow run id.

    An id is looked for in the folders under `root` first, and only then in MLflow (which takes seconds to import).

    Raises:
        UserError: There is no such run; the nearest ones are named.
    """
    path = Path(run)
    if path.is_dir():
        return RunFolder.open(path)
    if path.name == RUN_FILE and path.is_file():
        return RunFolder.open(path.parent)
    here = {mlflow_run_id(folder): folder for folder in reversed(run_folders(root))}
    if str(run) in here:
        return RunFolder.open(here[str(run)])
    if _RUN_ID.fullmatch(str(run)):
        folder = tracked_folder(str(run))
        if folder is not None:
            return _remembered(str(run), folder)
    raise UserError(
        f"no run {str(run)!r}: it is neither a run folder nor an MLflow run id", hints=_hints(str(run), root)
    )


def _remembered(run_id: str, folder: Path) -> RunFolder:
    if not (folder / RUN_FILE).is_file():
        raise UserError(
            f"MLflow knows run {run_id}, but its folder {folder} is not here",
            hints=("it was moved, deleted, or is on another machine; give the path of the folder",),
        )
    return RunFolder.open(folder)


def _hints(run: str, root: Path) -> tuple[str, ...]:
    folders = run_folders(root)
    if not folders:
        return (f"there are no runs in {os.fspath(root)}/",)
    ids = {run_id: str(folder) for folder in folders if (run_id := mlflow_run_id(folder))}
    names = {folder.name: str(folder) for folder in folders}
    called = ids | names | {str(folder): str(folder) for folder in folders}
    near = dict.fromkeys(called[name] for name in nearest(run, called))
    if near:
        return (f"did you mean {' or '.join(near)}?",)
    return (f"the latest runs: {', '.join(map(str, folders[:3]))}",)

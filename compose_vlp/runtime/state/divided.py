"""Checkpoints of models that are divided among processes: each writes its own pieces, while training goes on.

The pieces are written by torch.distributed.checkpoint into safetensors files, whose headers say where each piece lies:
nothing that is read again is a pickle.
"""

from __future__ import annotations

import json
import shutil
import socket
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from compose_vlp.errors import UserError
from compose_vlp.runtime.processes import PATIENCE, Processes
from compose_vlp.runtime.state.checkpoint import STATE, cannot_save, finish_folder, folder_aside_of, fsync_file
from compose_vlp.runtime.state.manifest import DIVIDED, FileEntry, describe_file
from compose_vlp.runtime.state.packing import pack

T = TypeVar("T")
_ENDING_S: Final = 600.0
"""Seconds for which the end of a run waits for what is being written."""
_PIECES: Final = "shard-{:05d}-"


def is_divided(state: Mapping[str, Any]) -> bool:
    """Tell whether any tensor of a model's state is divided among processes."""
    return any(isinstance(value, DTensor) for value in state.values())


class BackgroundSaver:
    """Saves one checkpoint at a time, from copies on the host, in a thread; all processes of a run use theirs alike."""

    def __init__(self) -> None:
        self._group: Any = None
        self._stager: DefaultStager | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(
        self,
        path: Path,
        state: Mapping[str, Any],
        *,
        step: int,
        blueprint: Mapping[str, Any] | None,
        processes: Processes,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy a state, and begin to save it; it is whole, or absent, whenever anything ends.

        Args:
            path: the checkpoint's folder.
            state: what `pack` takes, with tensors that are divided; all else is equal in all processes.
            step: how far training is.
            blueprint: what determines the model.
            processes: all of which call this.
            saved: called by the first process, in the thread, once the checkpoint is in its place.

        Raises:
            UserError: the one before could not be saved; a process does not see the folder.
        """
        self.wait()
        packed = pack(state, divided=True)
        aside = processes.by_main(lambda: folder_aside_of(path))
        refuse_unseen(aside, processes)
        if self._stager is None:
            cuda = torch.cuda.is_available()
            self._stager = DefaultStager(StagingOptions(cuda, False, False, cuda))
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        copies: Any = self._stager.stage(packed.groups)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

        def finish(entries: Mapping[str, FileEntry]) -> None:
            (aside / STATE).write_text(json.dumps(packed.skeleton, allow_nan=False))
            finish_folder(aside, path, step=step, blueprint=blueprint, form=DIVIDED, entries=entries)
            saved()

        def work() -> None:
            try:
                entries = _write_pieces(aside, copies, processes.rank, self._group)
                _agreed(lambda: finish(entries) if processes.main else None, self._group)
            except BaseException as error:  # noqa: BLE001 - raised by `wait`, in the thread that trains
                self._failure = error
                if processes.main:
                    shutil.rmtree(aside, ignore_errors=True)

        self._path = path
        self._thread = threading.Thread(target=work, name="save", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until what was begun is saved.

        Raises:
            UserError: it could not be saved.
        """
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise UserError(
                f"checkpoint {self._path} was not saved within {seconds:.0f} s: a process of the run is gone"
            )
        self._thread, failure, self._failure = None, self._failure, None
        if failure is not None:
            _raise_in_words(self._path, failure)

    def close(self) -> None:
        """Wait for the end of a run; what cannot be saved any more is told, and the one before stays."""
        try:
            self.wait(_ENDING_S)
        finally:
            if self._stager is not None:
                self._stager.close()
                self._stager = None


def refuse_unseen(folder: Path, processes: Processes) -> None:
    """Refuse to go on where a process does not see a folder that the first one made; all processes call it.

    Raises:
        UserError: names the machines.
    """
    blind = [host for host in processes.gather("" if folder.is_dir() else socket.gethostname()) if host]
    if blind:
        raise UserError(
            f"{', '.join(dict.fromkeys(blind))} does not see {folder.parent}, where the first process writes",
            hints=["`--out` names a folder on a file system that all machines of a run have"],
        )


def _write_pieces(aside: Path, groups: Mapping[str, dict[str, Tensor]], rank: int, group: Any) -> dict[str, FileEntry]:
    """Write this process's pieces; gives the sizes and digests of all processes' files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        for name, tensors in groups.items():
            writer = HuggingFaceStorageWriter(str(aside / name), save_distributed=True)
            save(tensors, storage_writer=writer, process_group=group)

    def describe() -> dict[str, FileEntry]:
        own = sorted(aside.glob(f"*/{_PIECES.format(rank + 1)}*"))
        for file in own:
            fsync_file(file)
        return {file.relative_to(aside).as_posix(): describe_file(file) for file in own}

    return {name: entry for entries in _agreed(describe, group) for name, entry in entries.items()}


def _agreed(action: Callable[[], T], group: Any) -> list[T]:
    """Gather what all processes come to; where the disk of one fails, it has failed for all.

    Raises:
        OSError: that of the first process that has one.
    """
    outcome: tuple[Any, tuple[Any, ...] | None]
    try:
        outcome = action(), None
    except OSError as error:
        outcome = None, (error.errno, error.strerror or str(error))
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, outcome, group=group)
    for _, failure in gathered:
        if failure is not None:
            raise OSError(*failure)
    return [result for result, _ in gathered]


def _raise_in_words(path: Path, failure: BaseException) -> None:
    cause: BaseException = failure
    if isinstance(failure, CheckpointException):
        cause = next(iter(failure.failures.values()))[0]
    while cause.__cause__ is not None and not isinstance(cause, OSError | SafetensorError | UserError):
        cause = cause.__cause__
    if isinstance(cause, OSError | SafetensorError):
        raise cannot_save(path, cause) from failure
    raise failure

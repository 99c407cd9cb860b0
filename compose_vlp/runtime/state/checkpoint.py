"""Checkpoints that are whole or absent: a folder of safetensors and JSON, written aside and renamed into place.

```
step-00001000/
  model.safetensors, optimizer.safetensors, ...   the tensors below each top-level key of the state; of a model that is
                                                  divided, folders of these names with a file of each process
  state.json      everything else, with the places of the tensors
  manifest.json   format, step, sizes and SHA-256 of the files, and what determines the model
```
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from compose_vlp.errors import UserError
from compose_vlp.files import fsync_directory, write_atomic
from compose_vlp.readable import storage
from compose_vlp.runtime.state.manifest import (
    MANIFEST,
    WHOLE,
    FileEntry,
    Manifest,
    check_blueprint,
    check_files,
    describe_files,
    flatten,
    read_manifest,
)
from compose_vlp.runtime.state.packing import pack, unpack
from compose_vlp.runtime.state.pieces import Like, cut_like, read_group

logger = logging.getLogger(__name__)

STATE = "state.json"
_OS_ERROR = re.compile(r"os error (\d+)")


def step_folder(checkpoints: Path, step: int) -> Path:
    """Give the folder of a step's checkpoint."""
    return checkpoints / f"step-{step:08d}"


def save(path: Path, state: Mapping[str, Any], *, step: int, blueprint: Mapping[str, Any] | None = None) -> None:
    """Save a state, so that `path` is either a whole checkpoint or what it was before.

    Args:
        path: The checkpoint's folder; one that is there is replaced.
        state: What `pack` takes; each top-level key becomes a file.
        step: How far training is.
        blueprint: What determines the model, nested, of JSON values; `load` compares it.

    Raises:
        UserError: The disk is full, or cannot be written.
        TypeError: The state holds something that a checkpoint cannot.
    """
    packed = pack(state)
    temporary = folder_aside_of(path)
    try:
        for group, tensors in packed.groups.items():
            save_file(tensors, temporary / f"{group}.safetensors", metadata={"format": "pt"})
        (temporary / STATE).write_text(json.dumps(packed.skeleton, allow_nan=False))
        finish_folder(temporary, path, step=step, blueprint=blueprint)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_save(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def folder_aside_of(path: Path) -> Path:
    """Make a folder to fill beside a checkpoint's, and remove what earlier savings left half done.

    Raises:
        UserError: it cannot be made.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(3)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        temporary.mkdir()
    except OSError as error:
        raise cannot_save(path, error) from error
    return temporary


def finish_folder(
    temporary: Path,
    path: Path,
    *,
    step: int,
    blueprint: Mapping[str, Any] | None,
    form: int = WHOLE,
    entries: Mapping[str, FileEntry] | None = None,
) -> None:
    """Write the manifest of a folder that holds all else, and bring it to its place.

    `entries` are files in folders below, which are on the disk already.
    """
    manifest = Manifest(
        step=step,
        sequence=1 + max((earlier.sequence for _, earlier in _complete(path.parent)), default=0),
        files={**describe_files(temporary), **(entries or {})},
        blueprint=None if blueprint is None else flatten(blueprint),
        format=form,
    )
    for file in temporary.iterdir():
        fsync_directory(file) if file.is_dir() else fsync_file(file)
    write_atomic(temporary / MANIFEST, manifest.to_json())
    _publish(temporary, path)


def load(
    path: Path,
    *,
    only: Collection[str] | None = None,
    blueprint: Mapping[str, Any] | None = None,
    device: str = "cpu",
    like: Like | None = None,
) -> dict[str, Any]:
    """Load the state of a checkpoint, of either form, after its files have been checked.

    Args:
        path: The checkpoint's folder.
        only: Top-level keys to read; all by default.
        blueprint: What determines the model that the state is for.
        device: Where the tensors go.
        like: Gives for a tensor's name and shape one that is divided among processes as it shall be, of which this
            process then has its piece; other tensors come whole.

    Raises:
        UserError: No checkpoint is there, a file is missing, cut short or damaged, a key is not in it, or it is of
            another blueprint.
    """
    manifest = read_manifest(path)
    if blueprint is not None:
        check_blueprint(path, manifest, flatten(blueprint))
    kept = {STATE, *(name for key in only for name in (key, f"{key}.safetensors"))} if only is not None else None
    check_files(path, manifest, only=kept)
    skeleton = json.loads((path / STATE).read_text())
    missing = set(only or ()) - set(skeleton)
    if missing:
        raise UserError(f"checkpoint {path} has no {', '.join(sorted(missing))}; it has {', '.join(skeleton)}")
    tensors: dict[tuple[str, str], torch.Tensor] = {}

    def fetch(group: str, name: str) -> torch.Tensor:
        if (group, name) not in tensors and (path / group).is_dir():
            for key, tensor in read_group(path / group, like).items():
                tensors[group, key] = tensor.to(device) if like is None else tensor
        elif (group, name) not in tensors:
            with safe_open(path / f"{group}.safetensors", framework="pt", device=device) as file:
                tensor = file.get_tensor(name)
            tensors[group, name] = cut_like(tensor, like(name, tensor.shape)) if like is not None else tensor
        return tensors[group, name]

    return {key: unpack(value, fetch) for key, value in skeleton.items() if only is None or key in only}


def keys(path: Path) -> list[str]:
    """List the top-level keys of a checkpoint's state.

    Raises:
        UserError: no checkpoint is there, or it is damaged.
    """
    check_files(path, read_manifest(path), only=(STATE,))
    return list(json.loads((path / STATE).read_text()))


def latest(folder: Path) -> Path | None:
    """Find the checkpoint that was saved last; None if there is none. Those that are not whole are skipped, aloud."""
    complete = _complete(folder, aloud=True)
    return complete[-1][0] if complete else None


def newest_first(folder: Path) -> list[Path]:
    """All checkpoints of a folder that look whole, the last one first; the others are passed over, aloud."""
    return [path for path, _ in reversed(_complete(folder, aloud=True))]


def verify(path: Path) -> None:
    """Compare every byte of a checkpoint with what was saved.

    Raises:
        UserError: a file is missing, cut short or damaged.
    """
    check_files(path, read_manifest(path))


def prune(folder: Path, keep: int) -> None:
    """Remove all whole checkpoints but the last `keep`, and what earlier savings left half done."""
    if keep < 1:
        raise ValueError(f"keep={keep}: at least the last checkpoint stays")
    _remove_leftovers(folder)
    for path, _ in _complete(folder)[:-keep]:
        doomed = path.with_name(f".{path.name}.tmp-doomed-{secrets.token_hex(3)}")
        path.rename(doomed)  # first, so that nobody finds it half removed
        shutil.rmtree(doomed, ignore_errors=True)


def _complete(folder: Path, *, aloud: bool = False) -> list[tuple[Path, Manifest]]:
    """List the whole checkpoints of a folder, in the order in which they were saved."""
    complete: list[tuple[Path, Manifest]] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            manifest = read_manifest(path)
            check_files(path, manifest, digests=False)
        except UserError as error:
            if aloud:
                logger.warning("passing over checkpoint %s: %s", path.name, error)
            continue
        complete.append((path, manifest))
    return sorted(complete, key=lambda pair: pair[1].sequence)


def _publish(temporary: Path, path: Path) -> None:
    """Rename into place. A checkpoint that is replaced keeps a name under which `latest` finds it until then."""
    replaced = path.with_name(f"{path.name}.replaced-{secrets.token_hex(3)}") if path.exists() else None
    if replaced is not None:
        path.rename(replaced)
    temporary.rename(path)
    fsync_directory(path.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a process that died while saving has left. Only one process saves to a folder."""
    for path in folder.glob(".*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob("*.replaced-*"):
        if path.with_name(path.name.partition(".replaced-")[0]).exists():
            shutil.rmtree(path, ignore_errors=True)


def fsync_file(file: Path) -> None:
    """Wait until the disk has a file."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_save(path: Path, error: OSError | SafetensorError) -> UserError:
    """Make the error for a checkpoint that could not be written."""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:  # safetensors writes in Rust, and says the system's number in words
        match = _OS_ERROR.search(str(error))
        code = int(match[1]) if match else None
    reason = str(error) if code is None else os.strerror(code)
    previous = latest(path.parent)
    hints = [f"the checkpoint before it is whole: {previous}"] if previous else []
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        free = shutil.disk_usage(path.parent if path.parent.is_dir() else Path.cwd()).free
        hints.append(f"{storage(free)} are free there; keep fewer checkpoints, or make room and resume")
    return UserError(f"cannot save checkpoint {path}: {reason}", hints=hints)

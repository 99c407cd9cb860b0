"""Files in object stores and on the web, by fsspec: what they are, what they hold, and what is wrong with a store.

Nothing of fsspec's is kept in an object: file systems are asked for where they are used, since they live in threads
that a forked process does not have. Credentials are the machine's (its environment, the files of the cloud's tools);
none may stand in an address, and none is ever shown.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

from compose_vlp.data.source import BadRecord, Encoded, clipped
from compose_vlp.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")
Trouble: TypeAlias = Literal["absent", "refused", "failing", "unusable"]

PATIENCE: Final = 300.0
"""Seconds for which a store that does not answer, throttles or breaks off is asked again."""
FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 20.0
SLOW: Final = 30.0
"""Seconds after which one that has not answered is told of."""
BLOCK: Final = 16 << 20
"""Bytes that are asked for at once."""

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET: Final = re.compile(r"(://)[^/@\s]+@|\?[^\s'\"]*")
_NETWORK: Final = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "httpx", "httpcore", "requests", "urllib3")
"""Packages whose errors mean that a store could not be spoken to."""


@dataclass(frozen=True)
class Stored:
    """A file of a store. `version` changes when what it holds does (an ETag, a time); empty where nothing tells."""

    address: str
    size: int
    version: str

    def __str__(self) -> str:
        return shown_address(self.address)

    @property
    def name(self) -> str:
        """Give the last part of the address, without a query."""
        return self.address.partition("?")[0].rstrip("/").rpartition("/")[2]


class _Asking:
    """Lets a process fork only while none of its threads speaks to a store.

    A lock that such a thread held (of an import, of a library) would be held in the forked process for ever.
    """

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(before=self._wait, after_in_parent=self._go_on, after_in_child=self._reset)

    def _reset(self) -> None:
        self._threads, self._forking, self._changed = 0, False, threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: self._threads == 0, timeout=SLOW)

    def _go_on(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()


_asking = _Asking()


class StoreError(Exception):
    """A store does not give what it was asked for; `trouble` says of which kind that is."""

    def __init__(self, address: str, trouble: Trouble, reason: str) -> None:
        super().__init__(f"{shown_address(address)}: {reason}")
        self.trouble = trouble

    def for_user(self) -> UserError:
        """Make the error for what cannot go on without the file."""
        hints = {
            "absent": "nothing is there, or under another name",
            "refused": "credentials are those of the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, "
            "GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN); public data: FSSPEC_S3_ANON=true",
            "failing": f"it was asked for {PATIENCE:.0f} seconds; what was trained so far is in the run's last "
            "checkpoint, and `--resume` goes on from it once the store answers",
            "unusable": "an address is as in s3://bucket/web-{0000..0099}.tar; `AWS_ENDPOINT_URL` names another server",
        }
        return UserError(str(self), hints=[hints[self.trouble]])


@dataclass(frozen=True)
class StoreFolder:
    """A folder of a store, whose pictures are read as records name them: `folder / name` is a function that reads one.

    What a record says never leads elsewhere: an address of another store, or a path above the folder, breaks it.
    """

    address: str

    def __truediv__(self, name: object) -> Callable[[], Encoded]:
        return partial(read_picture, self.address.rstrip("/"), str(name))

    def __str__(self) -> str:
        return shown_address(self.address)


def is_address(text: object) -> bool:
    """Tell whether a path is one of a store: `s3://bucket/a.tar`."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def shown_address(text: str) -> str:
    """Write an address as messages show it: without what signs it, and without names and passwords."""
    return _SECRET.sub(lambda secret: secret[1] or "?...", text)


def folder_of(address: str) -> StoreFolder:
    """Give the folder that a file of a store lies in."""
    return StoreFolder(address.rpartition("/")[0])


def look_up(address: str) -> Stored:
    """Ask a store for a file's size and version.

    Raises:
        StoreError: it is not there, or the store does not say.
    """

    def asked() -> Stored:
        info = _system(address).info(address)
        if info.get("type") == "directory":
            raise IsADirectoryError(address)
        return _stored(address, info)

    return patiently(address, asked)


def list_files(pattern: str) -> list[Stored]:
    """List the files that fit a pattern with `*` and `?`, by name; those of a folder fit `folder/*`.

    Raises:
        StoreError: the store does not say.
    """

    def asked() -> list[Stored]:
        system = _system(pattern)
        entries: dict[str, Any] = system.glob(pattern, detail=True)
        files = [(name, info) for name, info in sorted(entries.items()) if info.get("type") != "directory"]
        return [_stored(system.unstrip_protocol(name), info) for name, info in files]

    return patiently(pattern, asked)


def read_bytes(address: str, most: int) -> bytes:
    """Read a small file of a store, and no more than `most` bytes of it.

    Raises:
        StoreError: it cannot be had.
    """
    return patiently(address, lambda: bytes(_system(address).cat_file(address, start=0, end=most)))


def write_bytes(address: str, data: bytes) -> None:
    """Write a small file into a store.

    Raises:
        StoreError: it cannot be written.
    """
    patiently(address, lambda: _system(address).pipe_file(address, data))


def read_picture(folder: str, name: str) -> Encoded:
    """Read a picture that a record names below a folder of a store.

    Raises:
        BadRecord: it is not there or refused, or the name leads elsewhere.
        UserError: the store does not answer.
    """
    from compose_vlp.data.pictures import MOST_BYTES

    address = _below(folder, name)
    try:
        data = read_bytes(address, MOST_BYTES + 1)
    except StoreError as error:
        raise broken(error) from None
    return Encoded(data, shown_address(address))


def broken(error: StoreError) -> BadRecord | UserError:
    """Turn trouble with one file in the midst of reading into a record to be skipped, or what ends the run.

    What is absent or refused costs the records that lie there, which are counted; a store that does not answer would
    cost all of them, for no fault of theirs.
    """
    return BadRecord(str(error)) if error.trouble in ("absent", "refused") else error.for_user()


def patiently(address: str, ask: Callable[[], T]) -> T:
    """Ask a store, again and again while it fails for a reason that may pass.

    Raises:
        StoreError: it does not give it.
    """
    began, wait, warned = time.monotonic(), FIRST_WAIT, False
    while True:
        try:
            with _asking:
                return ask()
        # What a store's library raises is its own (botocore, aiohttp, google, ...) and no base class holds all of it;
        # nothing of ours runs within `ask` that this could hide.
        except Exception as error:
            trouble, reason = _judged(error)
            waited = time.monotonic() - began
            if trouble != "failing" or waited + wait > PATIENCE:
                raise StoreError(address, trouble, reason) from error
            if waited > SLOW and not warned:
                warned = True
                log.warning("%s has not answered for %.0f s (%s); asking on", shown_address(address), waited, reason)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def open_stored(stored: Stored, start: int) -> Any:
    """Open a file of a store to read it from a place on; a store that cannot seek begins at the beginning."""
    stream = _system(stored.address).open(stored.address, "rb", block_size=BLOCK, cache_type="none")
    if start:
        stream.seek(start)
    return stream


def _system(address: str) -> Any:
    """Give the file system of an address.

    Raises:
        UserError: there is none, its package is not installed, or the address holds a password.
    """
    import fsspec

    scheme, _, rest = address.partition("://")
    if "::" in address:
        raise UserError(f"{shown_address(address)} chains stores, which are read one by one", hints=["leave `::` out"])
    if "@" in rest.partition("/")[0]:
        hints = ["leave out what stands before `@`; credentials belong into the environment, and not into a blueprint"]
        raise UserError(f"{shown_address(address)} was written with a name or a password in it", hints=hints)
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        hints = ["uv pip install 'compose-vlp[stores]'", str(error)]
        raise UserError(f"{scheme}:// needs a package that is not installed", hints=hints) from error
    except ValueError as error:
        hints = ["s3://, gs://, hf://, https:// and what fsspec knows else"]
        raise UserError(f"{shown_address(address)}: no store is called {scheme!r}", hints=hints) from error


def _stored(address: str, info: dict[str, Any]) -> Stored:
    version = next((str(info[key]) for key in ("ETag", "etag", "md5Hash", "blob_id") if info.get(key)), "")
    if not version:
        version = str(info.get("LastModified") or info.get("mtime") or info.get("created") or "")
    return Stored(address, int(info["size"]) if info.get("size") is not None else -1, version.strip('"'))


def _below(folder: str, name: str) -> str:
    """Join a folder and what a record says lies in it; whole addresses in the same bucket are taken too."""
    bucket = "/".join(folder.split("/")[:3]) + "/"
    if name.startswith(bucket):
        folder, name = bucket.rstrip("/"), name[len(bucket) :]
    parts = [part for part in name.split("/") if part != "."]
    if is_address(name) or name.startswith("/") or ".." in parts or "\0" in name:
        raise BadRecord(f"{clipped(shown_address(name))} is no file below {shown_address(folder)}")
    return "/".join([folder, *parts])


def _judged(error: Exception) -> tuple[Trouble, str]:
    """Tell what kind of trouble an error of a store's library means, and what it is in words without secrets."""
    if isinstance(error, UserError):
        raise error
    status = _status(error)
    words = shown_address(clipped(str(error) or type(error).__name__, 160))
    if isinstance(error, FileNotFoundError | IsADirectoryError) or status in (404, 410):
        return "absent", "there is no such file"
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
        return "refused", f"the store refuses ({words})"
    if status is not None and status < 500 and status not in (408, 425, 429):
        return "unusable", words
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, OSError | TimeoutError) or package in _NETWORK or status is not None:
        about_address = "Validation" in type(error).__name__ or "InvalidURL" in type(error).__name__
        return ("unusable" if about_address else "failing"), words
    return "unusable", f"{type(error).__name__}: {words}"


def _status(error: Exception) -> int | None:
    """Find the HTTP status of an error, where its library keeps it."""
    response = getattr(error, "response", None)
    held = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    own = (getattr(error, name) for name in ("status", "code") if name in vars(error))
    for value in (held, *own, getattr(response, "status_code", None)):
        if isinstance(value, int):
            return value
    return _status(error.__cause__) if isinstance(error.__cause__, Exception) else None

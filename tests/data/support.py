"""What several tests of data need."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any, ClassVar, Final, Self


def write_png_header(file: Path, width: int, height: int) -> None:
    """The start of a PNG, which is all that may be read of a picture that is too large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = b"IDAT"
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, empty)]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


class ProgramStarts:
    """Programs that this process starts while it is entered, by Python's audit events; `programs` lists them.

    A hook cannot be taken away again, so there is one for all, which sleeps outside.
    """

    EVENTS: Final = (
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.startfile",
    )
    _awake: ClassVar[list[ProgramStarts]] = []
    _hooked: ClassVar[bool] = False

    def __init__(self) -> None:
        self.programs: list[str] = []

    def __enter__(self) -> Self:
        if not ProgramStarts._hooked:
            sys.addaudithook(ProgramStarts._hear)
            ProgramStarts._hooked = True
        self._awake.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._awake.remove(self)

    @staticmethod
    def _hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ProgramStarts.EVENTS:
            for listening in ProgramStarts._awake:
                listening.programs.append(f"{event}{arguments[:2]!r}")

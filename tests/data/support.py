"""What several tests of data need."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path


def write_png_header(file: Path, width: int, height: int) -> None:
    """The start of a PNG, which is all that may be read of a picture that is too large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = b"IDAT"
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, empty)]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))

"""Values that records of strangers hold, drawn by chance: wrong types, wrong sizes, damaged files of every kind."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from compose_vlp.data import Encoded
from compose_vlp.data.pictures import FORMATS

TEXTS: Final = (
    "", " ", "\n\t", "a cat", "a dog and a cat on the mat", "\ud83d", "\ude00\ud83d", "nul\x00", "\x1b[2J",
    "\u202ereversed", "\ufeffbom", "\u200b", "\U0001f600" * 40, "e\u0301" * 40, "\ufffd", "\uffff", "[CLS] [MASK]",
    "<|endoftext|>", "##", "&amp;lt;&#1114112;&#0;", "SELECT '", "../../etc/passwd", "/dev/stdin", "https://example.com/a.png",
    "data:image/png;base64,xx", "NaN", "1e999", "true", "-0", "9" * 400,
)  # fmt: skip
NUMBERS: Final = (
    0, 1, -1, 3, 255, 256, 65536, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400, 10**5000, 0.5,
    -0.0, 1e-320, 3.4e38, 3.5e38, 1e308, float("nan"), float("inf"), -float("inf"), True, False,
)  # fmt: skip

# Kinds that Pillow cannot write, by how their files begin.
BEGINNINGS: Final[Mapping[str, bytes]] = {
    "CUR": b"\x00\x00\x02\x00\x01\x00\x10\x10\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x16\x00\x00\x00",
    "DCX": b"\xb1\x68\xde\x3a\x10\x00\x00\x00",
    "EMF": b"\x01\x00\x00\x00" + bytes(36) + b" EMF",
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    "FLI": bytes(4) + b"\x11\xaf\x01\x00\x10\x00\x10\x00\x08\x00",
    "FTEX": b"FTEX",
    "GBR": b"\x00\x00\x00\x1c\x00\x00\x00\x02\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x04GIMP",
    "GRIB": b"GRIB\x00\x00\x00\x01",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "IPTC": b"\x1c\x03\x3c\x00\x02\x01\x00",
    "MCIDAS": b"\x00\x00\x00\x00\x00\x00\x00\x04",
    "MPEG": b"\x00\x00\x01\xb3\x01\x00\x10",
    "OLE": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "PCD": bytes(2048) + b"PCD_",
    "PDF": b"%PDF-1.7\n",
    "PIXAR": b"\200\350\000\000",
    "PSD": b"8BPS\x00\x01" + bytes(6) + b"\x00\x03\x00\x00\x00\x10\x00\x00\x00\x10\x00\x08\x00\x03",
    "SUN": b"\x59\xa6\x6a\x95\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x18",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "WMF": b"\xd7\xcd\xc6\x9a\x00\x00",
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"16 16 2 1",\n',
    "XVTHUMB": b"P7 332\n#END_OF_COMMENTS\n16 16 255\n",
    "ZIP": b"PK\x03\x04",
}  # fmt: skip
SHAPES: Final = (
    (8, 8, 3), (8, 8), (3, 8, 8), (1, 8, 8), (8, 8, 4), (8, 8, 2), (8, 8, 1), (0, 8, 3), (8,), (), (2, 8, 8, 3),
    (8, 8, 5), (1, 1, 3), (3, 1, 400),
)  # fmt: skip
TYPES: Final = (
    "uint8", "uint16", "int16", "int32", "int64", "uint64", "float16", "float32", "float64", "bool", "complex64", "<U3",
    "object", ">u2", ">f4", "S4", "datetime64[s]",
)  # fmt: skip
MODES: Final = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "I", "F", "LAB", "HSV", "I;16")


@cache
def files() -> Mapping[str, bytes]:
    """A small file of every kind and mode that Pillow writes, and the beginning of one of each other kind."""
    Image.init()
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    held = {kind: start + bytes(range(200)) for kind, start in BEGINNINGS.items()}
    exif = Image.Exif()
    exif[0x0112] = 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mode in MODES:
            drawn = _of_mode(noise, mode)
            for kind in sorted(Image.SAVE):
                for name, settings in (("", {}), (", animated", {"save_all": True, "append_images": [drawn]})):
                    stream = io.BytesIO()
                    try:
                        drawn.save(stream, kind, **settings, **({"exif": exif} if kind in ("JPEG", "PNG") else {}))
                    except Exception:  # noqa: BLE001 - this kind has no such mode, and Pillow says so in many ways
                        continue
                    held[f"{kind}, {mode}{name}"] = stream.getvalue()
    return held


def _of_mode(noise: np.ndarray[Any, Any], mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    drawn = Image.fromarray(noise)
    return drawn.convert("P").convert("PA") if mode == "PA" else drawn.convert(mode)


def damaged(random: Random, data: bytes) -> bytes:
    """The data with something wrong in it, or as it is."""
    changed = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1 if at < len(changed):
                changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[at:]
            case 3:
                changed[at : at + 4] = random.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00"))
            case 4:
                changed[at:at] = random.randbytes(random.randrange(1, 9))
            case 5:
                del changed[at : at + random.randrange(1, 9)]
            case _:
                changed[at:at] = changed[at : at + random.randrange(1, 65)]
    return bytes(changed)


def file(random: Random) -> bytes:
    """A picture file, mostly of a kind that is read, more often than not damaged."""
    read = [name for name in files() if name.split(",")[0] in FORMATS]
    return damaged(random, files()[random.choice(read if random.random() < 0.8 else sorted(files()))])


def array(random: Random) -> Any:
    """Numbers in some shape and type, as an array, a tensor or lists."""
    shape, kind = random.choice(SHAPES), random.choice(TYPES)
    low, high = random.choice(((0, 1), (0, 255), (-1, 1), (0, 65535), (-3, 3), (0, 2**31), (0, 1e30), (0, 0)))
    drawn = np.random.default_rng(random.randrange(2**32)).uniform(low, high, shape)
    if random.random() < 0.1 and drawn.size:
        drawn.reshape(-1)[0] = random.choice((float("nan"), float("inf")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = drawn.astype("int64").astype(kind) if "datetime" in kind else drawn.astype(kind)
    form = random.randrange(4)
    if form == 0 and held.dtype.kind in "buifc" and held.dtype.isnative and held.dtype != np.uint64:
        return torch.from_numpy(np.ascontiguousarray(held))
    return held.tolist() if form == 1 else held


def text(random: Random) -> str:
    """A text, strange or long."""
    match random.randrange(4):
        case 0:
            return "".join(chr(random.randrange(0x110000)) for _ in range(random.randrange(30)))
        case 1:
            return random.choice(TEXTS) * random.choice((1, 1, 2, 3000))
        case 2:
            return " ".join(random.choice(TEXTS) for _ in range(random.randrange(9)))
        case _:
            return random.choice(TEXTS)


def nested(random: Random) -> Any:
    """Lists in lists, or a mapping, of anything."""
    if random.random() < 0.05:
        deep: Any = 0
        for _ in range(random.choice((5, 2000))):
            deep = [deep]
        return deep
    inner = [value(random) for _ in range(random.randrange(4))]
    if random.random() < 0.5:
        return inner if random.random() < 0.8 else tuple(inner)
    keys = [random.choice(("bytes", "path", "a", "\ud83d", "", 0, None)) for _ in inner]
    return dict(zip(keys, inner, strict=True))


def drawn(random: Random) -> Image.Image:
    """A picture of Pillow's: of some mode and size, or opened and not yet read."""
    if random.random() < 0.5:
        return Image.new(random.choice(MODES), (random.randrange(9), random.randrange(9)))
    try:
        return Image.open(io.BytesIO(file(random)))
    except Exception:  # noqa: BLE001 - whoever opens a damaged file has to expect all that Pillow raises
        return Image.new("L", (3, 3))


MAKERS: Final[tuple[tuple[Callable[[Random], Any], int], ...]] = (
    (file, 10),
    (lambda random: {"bytes": file(random), "path": random.choice((None, "a.png", 3, "\ud83d"))}, 3),
    (lambda random: Encoded(file(random), random.choice(TEXTS)), 3),
    (lambda random: lambda: Encoded(file(random), "a function"), 1),
    (text, 8),
    (lambda random: [text(random) for _ in range(random.randrange(4))], 3),
    (lambda random: {text(random): random.choice(NUMBERS) for _ in range(random.randrange(4))}, 2),
    (lambda random: random.choice(NUMBERS), 6),
    (lambda random: np.float64(random.choice(NUMBERS[-10:])), 1),
    (array, 6),
    (drawn, 3),
    (nested, 2),
    (lambda random: random.choice((None, object(), b"", set(), frozenset({1}), range(3), 1j, Ellipsis, slice(1))), 2),
)


def value(random: Random) -> Any:
    """Anything that a record may hold."""
    (make,) = random.choices([make for make, _ in MAKERS], [weight for _, weight in MAKERS])
    return make(random)


def fitting(random: Random, kind: str) -> Any:
    """What an input of that type is likely to be given."""
    if kind == "image":
        return file(random)
    if kind == "text":
        return text(random) if random.random() < 0.7 else [text(random) for _ in range(random.randrange(1, 4))]
    return random.choice(NUMBERS) if random.random() < 0.8 else text(random)

"""Pictures in every form that records have them in: read, as bright as they are meant, or refused in words."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from compose_vlp.blueprint.inputs import ImageInput
from compose_vlp.data import BadRecord, Encoded
from compose_vlp.data.collate import Collator
from compose_vlp.data.pictures import FORMATS, MOST_BYTES, open_picture
from tests.data.support import ProgramStarts

SIDE = 8
COLOUR = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
OF_GREY = np.repeat(GREY[..., None], 3, 2)


def read(value: Any, *, train: bool = False, epoch: int = 0) -> NDArray[np.uint8]:
    """What a model is shown of a picture that has its size already."""
    (pixels,) = Collator({"image": ImageInput(size=SIDE)}, {}, train=train).read({"image": value}, epoch)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SIDE, SIDE, 3)
    return np.asarray(pixels)


def file(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def of(levels: Any) -> Image.Image:
    return Image.fromarray(np.asarray(levels))


# --- forms ------------------------------------------------------------------------------------------------------

PNG = file(of(COLOUR))
BYTES: list[Any] = [
    PNG,
    bytearray(PNG),
    memoryview(PNG),
    Encoded(PNG, "sent"),
    {"bytes": PNG, "path": None},
    {"bytes": PNG, "path": "a.png"},
    {"bytes": PNG},
    [PNG],
    [{"bytes": PNG, "path": None}],
    (Encoded(PNG, "first"), Encoded(b"never read", "second")),
]


@pytest.mark.parametrize("value", BYTES, ids=[str(n) for n in range(len(BYTES))])
def test_what_a_picture_file_holds_is_a_picture(value: Any) -> None:
    assert np.array_equal(read(value), COLOUR)


def test_paths_of_every_form_are_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    path = tmp_path / "a.png"
    for value in (path, str(path), {"bytes": None, "path": str(path)}, [str(path)]):
        assert np.array_equal(read(value), COLOUR)


def test_of_several_pictures_one_is_drawn_in_training_and_the_first_is_taken_elsewhere() -> None:
    several = [file(of(np.full((SIDE, SIDE, 3), level, np.uint8))) for level in (10, 20, 30)]
    assert {int(read(several, epoch=epoch)[0, 0, 0]) for epoch in range(9)} == {10}
    drawn = [int(read(several, train=True, epoch=epoch)[0, 0, 0]) for epoch in range(40)]
    assert set(drawn) == {10, 20, 30}
    assert drawn == [int(read(several, train=True, epoch=epoch)[0, 0, 0]) for epoch in range(40)]


# --- brightness: against what the levels say ----------------------------------------------------------------------

FLOATS = COLOUR / 255.0
LEVELS: dict[str, tuple[Any, NDArray[np.uint8]]] = {
    "uint8": (COLOUR, COLOUR),
    "uint8, grey": (GREY, OF_GREY),
    "uint8, one channel": (GREY[..., None], OF_GREY),
    "uint16": (COLOUR.astype(np.uint16) * 257, COLOUR),
    "int64": (COLOUR.astype(np.int64), COLOUR),
    "int32 of 16 bits": (COLOUR.astype(np.int32) * 257, COLOUR),
    "float64": (FLOATS, COLOUR),
    "float32": (FLOATS.astype(np.float32), COLOUR),
    "float16, grey": (FLOATS[..., 0].astype(np.float16), OF_GREY),
    "floats a little beyond 1": (FLOATS * 1.004, COLOUR),
    "floats to 255": (COLOUR.astype(np.float32), COLOUR),
    "truth values": (GREY > 127, np.where(OF_GREY > 127, 255, 0).astype(np.uint8)),
    "lists of floats": (FLOATS.tolist(), COLOUR),
    "lists of whole numbers": (COLOUR.tolist(), COLOUR),
    "lists, grey": (FLOATS[..., 0].tolist(), OF_GREY),
    "channels first": (FLOATS.transpose(2, 0, 1), COLOUR),
    "not contiguous": (np.asfortranarray(COLOUR), COLOUR),
    "big-endian": ((COLOUR.astype(np.uint16) * 257).astype(">u2"), COLOUR),
    "read-only": (np.frombuffer(COLOUR.tobytes(), np.uint8).reshape(COLOUR.shape), COLOUR),
    "a tensor": (torch.from_numpy(COLOUR), COLOUR),
    "a tensor, channels first": (torch.from_numpy(FLOATS).permute(2, 0, 1).float(), COLOUR),
    "a tensor with a gradient": (torch.from_numpy(FLOATS).float().requires_grad_(), COLOUR),
    "a grey tensor": (torch.from_numpy(FLOATS[..., 0])[None], OF_GREY),
    "bfloat16": (torch.from_numpy(FLOATS).to(torch.bfloat16), COLOUR),
    "grey and alpha": (np.stack([GREY, np.full_like(GREY, 255)], -1), OF_GREY),
    "colours and alpha": (np.dstack([COLOUR, np.full_like(GREY, 255)]), COLOUR),
    "floats and alpha": (np.dstack([FLOATS, np.ones_like(FLOATS[..., 0])]), COLOUR),
    "black floats": (np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE, 3), np.uint8)),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_of_every_kind_are_as_bright_as_they_are_meant(name: str) -> None:
    levels, expected = LEVELS[name]
    assert abs(read(levels).astype(int) - expected).max() <= 1


FILES: dict[str, tuple[Callable[[], bytes], NDArray[np.uint8], int]] = {
    "I;16, PNG": (lambda: file(of(GREY.astype(np.uint16) * 257)), OF_GREY, 1),
    "I;16, TIFF": (lambda: file(of(GREY.astype(np.uint16) * 257), "TIFF"), OF_GREY, 1),
    "I;16 and dark": (lambda: file(of(GREY.astype(np.uint16))), np.zeros_like(OF_GREY), 1),
    "I, TIFF": (lambda: file(of(GREY.astype(np.int32)), "TIFF"), OF_GREY, 0),
    "I of a PGM of 16 bits": (
        lambda: b"P5 8 8 65535\n" + (GREY.astype(np.uint16) * 257).astype(">u2").tobytes(),
        OF_GREY,
        1,
    ),
    "I of a dark PGM": (lambda: b"P5 8 8 65535\n" + GREY.astype(">u2").tobytes(), np.zeros_like(OF_GREY), 1),
    "PGM of 10 bits": (lambda: b"P5 8 8 1020\n" + (GREY.astype(np.uint16) * 4).astype(">u2").tobytes(), OF_GREY, 1),
    "F from 0 to 1": (lambda: file(of((GREY / 255).astype(np.float32)), "TIFF"), OF_GREY, 1),
    "F from 0 to 255": (lambda: file(of(GREY.astype(np.float32)), "TIFF"), OF_GREY, 1),
    "palette": (lambda: file(of(OF_GREY).convert("P", palette=Image.Palette.ADAPTIVE)), OF_GREY, 2),
    "CMYK, TIFF": (lambda: file(of(COLOUR).convert("CMYK"), "TIFF"), COLOUR, 1),
    "CMYK, JPEG": (lambda: file(of(OF_GREY).convert("CMYK"), "JPEG", quality=100), OF_GREY, 4),
    "LAB": (lambda: file(of(OF_GREY).convert("LAB"), "TIFF"), OF_GREY, 4),
    "LA": (lambda: file(of(GREY).convert("LA")), OF_GREY, 0),
    "RGBA": (lambda: file(of(COLOUR).convert("RGBA")), COLOUR, 0),
    "1": (lambda: file(of(GREY > 127)), np.where(OF_GREY > 127, 255, 0).astype(np.uint8), 0),
    "1, TIFF by groups": (
        lambda: file(of(GREY > 127), "TIFF", compression="group4"),
        np.where(OF_GREY > 127, 255, 0).astype(np.uint8),
        0,
    ),
    "WebP": (lambda: file(of(COLOUR), "WEBP", lossless=True), COLOUR, 0),
    "AVIF": (lambda: file(of(OF_GREY), "AVIF", quality=100), OF_GREY, 6),
    "JPEG 2000": (lambda: file(of(COLOUR), "JPEG2000"), COLOUR, 2),
    "JPEG 2000, 16 bits": (lambda: file(of(GREY.astype(np.uint16) * 257), "JPEG2000"), OF_GREY, 2),
    "BMP": (lambda: file(of(COLOUR), "BMP"), COLOUR, 0),
    "GIF": (lambda: file(of(GREY), "GIF"), OF_GREY, 0),
    "several JPEGs in one": (
        lambda: file(of(OF_GREY), "MPO", save_all=True, append_images=[of(COLOUR)], quality=100),
        OF_GREY,
        4,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_are_as_bright_as_they_are_meant(name: str) -> None:
    make, expected, by = FILES[name]
    assert abs(read(make()).astype(int) - expected).max() <= by


def test_transparency_of_every_kind_shows_the_ground() -> None:
    clear = np.zeros((SIDE, SIDE, 4), np.uint8)
    grey = np.zeros((SIDE, SIDE, 2), np.uint8)
    for value in (clear, clear / 255, grey, torch.from_numpy(clear), file(of(clear)), file(of(grey))):
        assert (read(value) == 255).all()


# --- what is refused ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str]] = {
    "normalised floats": (FLOATS * 2 - 1, r"numbers from -1 to 0\.\d+, which are no levels"),
    "floats of neither scale": (FLOATS * 3, "no levels of a picture"),
    "floats of 16 bits": (FLOATS * 65535, "no levels of a picture"),
    "a NaN": (np.full((4, 4), np.nan), "no levels of a picture"),
    "an infinity": (np.full((4, 4), np.inf), "no levels of a picture"),
    "negative numbers": (np.full((4, 4), -3), "no levels of a picture"),
    "numbers of 32 bits": (np.full((4, 4), 2**31), "no levels of a picture"),
    "numbers of 70 bits": ([[2**70, 1]], "not numbers|no picture"),
    "complex numbers": (np.ones((4, 4), complex), "complex128, not numbers"),
    "words in an array": (np.array([["a"]]), "not numbers"),
    "lists of other lengths": ([[1.0, 2.0], [3.0]], "no picture"),
    "a vector": (np.ones(9), r"the shape \[9\]"),
    "a single number in a list": ([0.5], r"the shape \[1\]"),
    "two pictures in an array": (np.ones((2, 4, 4, 3), np.uint8), r"the shape \[2, 4, 4, 3\]"),
    "five channels": (np.ones((6, 6, 5), np.uint8), r"the shape \[6, 6, 5\]"),
    "no pixels": (np.ones((0, 4, 3), np.uint8), "4 x 0 pixels"),
    "a tensor without data": (torch.ones(3, 4, 4, device="meta"), "without plain numbers"),
    "an empty list": ([], "an empty list"),
    "a number": (3, "image is 3, not a picture"),
    "a truth value": (True, "image is True, not a picture"),
    "nothing": (None, "image is None, not a picture"),
    "no bytes": (b"", "no picture of a known kind"),
    "a mapping of nothing": ({"bytes": None, "path": None}, "without `bytes` or a `path`"),
    "a mapping of something else": ({"url": "x"}, "without `bytes` or a `path`"),
    "a text in a mapping": ({"bytes": "AAAA", "path": None}, "without `bytes`"),
    "an address": ("https://example.com/a.png", "No such file"),
    "a NUL in a path": ("a\x00b.png", "null"),
    "half a pair in a path": ("\ud83d.png", "surrogates not allowed"),
    "a path that is too long": ("x" * 5000, "too long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_printable_words(name: str) -> None:
    value, says = REFUSED[name]
    with pytest.raises(BadRecord, match=says) as caught:
        read(value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadRecord, match="no plain file"):
        open_picture(tmp_path / "pipe.png")
    with pytest.raises(BadRecord, match="no plain file"):
        open_picture(Path("/dev/zero"))
    with (tmp_path / "vast.png").open("wb") as sparse:
        sparse.write(PNG)
        sparse.truncate(MOST_BYTES + 1)
    with pytest.raises(BadRecord, match="a file of 712,000,001 bytes"):
        open_picture(tmp_path / "vast.png")


# --- no picture starts a program ----------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[ProgramStarts]:
    with ProgramStarts() as listening:
        yield listening


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "value",
    [
        EPS,
        b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + len(EPS).to_bytes(4, "little") + bytes(18) + EPS,
        b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(40),
        b"\x01\x00\x00\x00" + bytes(36) + b" EMF" + bytes(60),
        b"%PDF-1.4\n1 0 obj\n",
        b"8BPS\x00\x01" + bytes(40),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        b"\x0a\x05\x01\x08" + bytes(200),
    ],
    ids=["EPS", "EPS with a preview", "WMF", "EMF", "PDF", "PSD", "FPX or MIC", "PCX"],
)
def test_kinds_that_are_not_read_are_not_tried(value: bytes, tmp_path: Path, started: ProgramStarts) -> None:
    (tmp_path / "0001.jpg").write_bytes(value)
    for given in (value, tmp_path / "0001.jpg"):
        with pytest.raises(BadRecord, match="no picture of a known kind"):
            read(given)
    assert not started.programs
    assert "EPS" not in FORMATS


def test_a_picture_that_was_opened_elsewhere_starts_nothing_either(started: ProgramStarts) -> None:
    with Image.open(io.BytesIO(EPS)) as lazy, pytest.raises(BadRecord, match="a file of the kind EPS"):
        read(lazy)
    assert not started.programs
    with Image.open(io.BytesIO(PNG)) as lazy:
        assert np.array_equal(read(lazy), COLOUR)


def test_a_damaged_picture_within_a_list_breaks_its_record() -> None:
    """It is decoded only when the list becomes an array, and decoders raise errors of any type."""

    class Undecodable:
        __array_interface__ = property(lambda _: (_ for _ in ()).throw(SyntaxError("frame 0")))

    for within in ([[Undecodable()]], (Undecodable(), 1), [np.zeros(3), Undecodable()]):
        with pytest.raises(BadRecord):
            read(within)
    with pytest.raises(BadRecord, match="frame 0"):
        read([[Undecodable()]])

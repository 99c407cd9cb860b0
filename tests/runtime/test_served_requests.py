"""What strangers ask of a served model: no file of the server, nothing without bounds, every refusal in words."""

from __future__ import annotations

import base64
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from compose_vlp.data import Encoded
from compose_vlp.errors import UserError
from compose_vlp.runtime.inference import served_requests as requests
from tests.data.support import write_png_header


def png(width: int = 4, height: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


PNG = png()
PACKED = base64.b64encode(PNG).decode()


def asked(value: Any, folder: Path | None = None) -> Any:
    (picture,) = requests.pictures_of_request([value], folder)
    return picture


@pytest.mark.parametrize(
    "value",
    [PNG, bytearray(PNG), memoryview(PNG), PACKED, f"data:image/png;base64,{PACKED}", f" {PACKED}\n"],
    ids=range(6),
)
def test_pictures_come_as_bytes_in_base64_or_as_addresses(value: Any) -> None:
    assert asked(value) == Encoded(PNG, "the picture sent")


def test_pixels_and_pictures_of_the_same_process_are_taken() -> None:
    pixels = np.zeros((3, 4, 3), np.uint8)
    assert asked(pixels) is pixels
    assert asked(Image.new("RGB", (4, 3))).size == (4, 3)


NO_PICTURES: list[Any] = [
    None, 3, float("nan"), True, "", "nothing", "data:image/png,plain", "data:", "\ud83d", "a\x00b", "x" * 5000,
    {"bytes": None, "path": "a.png"}, {"bytes": PNG, "path": None}, [[0.5]], ("a.png",), "dGV4dA==",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_PICTURES, ids=range(len(NO_PICTURES)))
def test_what_is_no_picture_is_refused_in_words(value: Any, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(UserError) as refused:
            asked(value, folder)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300


# --- files of the server ------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A machine: a folder that was opened, with a link out of it, and a secret beside it."""
    (tmp_path / "opened" / "inner").mkdir(parents=True)
    (tmp_path / "opened_too").mkdir()
    for name in ("opened/a.png", "opened/inner/b.png", "secret.png", "opened_too/c.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "opened" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "opened" / "out").symlink_to(tmp_path)
    (tmp_path / "opened" / "within.png").symlink_to("inner/b.png")
    (tmp_path / "opened" / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "opened" / "pipe.png")
    return tmp_path


@pytest.mark.parametrize("path", ["a.png", "inner/b.png", "./a.png", "within.png", "{root}/opened/a.png"])
def test_paths_below_the_folder_that_was_opened_are_read(server: Path, path: str) -> None:
    assert asked(path.format(root=server), server / "opened").data == PNG


ELSEWHERE = [
    "{root}/secret.png", "../secret.png", "inner/../../secret.png", "link.png", "out/secret.png", "loop.png",
    "pipe.png", "{root}/opened_too/c.png", "../opened_too/c.png", "inner", ".", "/etc/passwd", "/dev/zero", "~/a.png",
    "file://{root}/opened/a.png", "{root}/opened/../secret.png", "nowhere.png", "/nowhere.png",
]  # fmt: skip


@pytest.mark.parametrize("path", ELSEWHERE)
def test_no_other_path_is_read_and_none_is_told_from_another(server: Path, path: str) -> None:
    path = path.format(root=server)
    for folder, says in (
        (None, "this server opens no files"),
        (server / "opened", "no picture in the folder that this server opens"),
    ):
        with pytest.raises(UserError) as refused:
            asked(path, folder)
        words = str(refused.value)
        assert words.endswith(f" is no picture in base64, and {says}")
        assert words.count(str(server)) <= path.count(str(server)), "nothing is told that was not asked"


def test_a_picture_of_the_folder_that_is_broken_is_told_by_the_name_that_was_asked_for(server: Path) -> None:
    (server / "opened" / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"^the picture 'text.png': no picture of a known kind"):
        asked("text.png", server / "opened")


def test_the_folder_is_opened_by_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(requests.FOLDER, raising=False)
    assert requests.opened_folder() is None
    monkeypatch.setenv(requests.FOLDER, "")
    assert requests.opened_folder() is None
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv(requests.FOLDER, str(tmp_path / "link"))
    assert requests.opened_folder() == tmp_path.resolve()
    monkeypatch.setenv(requests.FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="which is no folder"):
        requests.opened_folder()


# --- limits -------------------------------------------------------------------------------------------------------


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    write_png_header(tmp_path / "large.png", 9000, 9000)
    large = (tmp_path / "large.png").read_bytes()
    before, began = psutil.Process().memory_info().rss, time.process_time()
    with pytest.raises(UserError, match="a picture of 9000 x 9000 pixels; a request's may have 25,000,000"):
        requests.pictures_of_request([large] * 10, None)
    write_png_header(tmp_path / "some.png", 4900, 4900)
    some = (tmp_path / "some.png").read_bytes()
    assert len(requests.pictures_of_request([some] * 4, None)) == 4
    with pytest.raises(UserError, match="pictures of 120,050,000 pixels together; a request may have 100,000,000"):
        requests.pictures_of_request([some] * 5, None)
    assert time.process_time() - began < 1
    assert psutil.Process().memory_info().rss - before < 50e6


def test_rows_texts_and_files_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    requests.rows_of_request({"caption": ["a"] * 64})
    with pytest.raises(UserError, match="65 values of 'caption'; a request may have 64"):
        requests.rows_of_request({"image": ["a"], "caption": ["a"] * 65})
    assert requests.text_of_request("caption", "a" * 10_000)
    with pytest.raises(UserError, match="'caption' has 10,001 letters; a request may have 10,000"):
        requests.text_of_request("caption", "a" * 10_001)
    monkeypatch.setattr(requests, "MOST_FILE", 30)
    with pytest.raises(UserError, match="may have 30 bytes"):
        asked(PACKED)


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, 3, 2**63 - 1, 3.0, np.int64(3)])
def test_seeds_are_whole_numbers(value: Any) -> None:
    assert requests.seed_of_request(value) == (value or 0)


SEEDS = [float("inf"), float("nan"), 0.5, -1, 2**63, 10**5000, "3", True, [1], {}]


@pytest.mark.parametrize("value", SEEDS, ids=range(len(SEEDS)))
def test_other_seeds_are_refused_in_words(value: Any) -> None:
    with pytest.raises(UserError, match="not a whole number from 0 to"):
        requests.seed_of_request(value)


@pytest.mark.parametrize("value", [None, "", "{}", '{"beams": 3, "top_p": 0.5}', {"beams": 16}])
def test_settings_are_a_json_object_of_numbers(value: Any) -> None:
    assert isinstance(requests.settings_of_request(value, ["image"]), dict)


SETTINGS = [
    "{", "[]", "3", "null", '"beams"', "[" * 9000, '{"a":' * 1900, '{"beams": 17}', '{"beams": 1e999}',
    '{"beams": "3"}', '{"beams": null}', '{"beams": [3]}', '{"top_p": NaN}', '{"top_p": -Infinity}', '{"seed": 1}',
    '{"image": 1}', '{"beams": ' + "9" * 5000 + "}", '{"a": "' + "x" * 10_000 + '"}', 3, [1], {1: 2},
    {"beams": object()}, b"{}", float("nan"),
]  # fmt: skip


@pytest.mark.parametrize("value", SETTINGS, ids=range(len(SETTINGS)))
def test_other_settings_are_refused_in_words(value: Any) -> None:
    with pytest.raises(UserError, match="settings") as refused:
        requests.settings_of_request(value, ["image"])
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()

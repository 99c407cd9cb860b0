"""What data sets of the web hold: every picture and caption is used, or skipped with a reason; nothing else stops."""

from __future__ import annotations

import csv
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.data import Source, open_source
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.data.loader import Loader
from compose_vlp.errors import UserError
from tests.data.support import write_png_header

SIZE = 24
GOOD = {
    "one pixel.png": (255, 0, 0),
    "line.png": (0, 0, 255),
    "long.png": (0, 128, 0),
    "cmyk.jpg": (255, 0, 0),
    "alpha.png": (255, 255, 255),
    "half alpha.png": (127, 127, 127),
    "palette.png": (0, 0, 255),
    "palette with a clear colour.png": (255, 255, 255),
    "16 bit.png": (100, 100, 100),
    "black and white.png": (255, 255, 255),
    "animated.gif": (255, 0, 0),
    "animated.webp": (255, 0, 0),
    "animated.png": (255, 0, 0),
}
"""Pictures of one colour, and what is seen of them on white."""
BROKEN = {
    "huge.png": "20000 x 20000 pixels|decompression bomb",
    "cut.jpg": "truncated",
    "text.jpg": "no picture of a known kind",
    "empty.png": "no picture of a known kind",
    "missing.png": "No such file",
    "folder.png": "Is a directory",
}
CAPTIONS = {
    "ten thousand words": "a very long caption indeed " * 2000,
    "other scripts": "一只猫 кошка قطة 🐈",
    "control characters": "a\x00b\x07 \u200b\ufeff cat",
}


def save_pictures(folder: Path) -> None:
    red, blue = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    Image.new("RGB", (1, 1), "red").save(folder / "one pixel.png")
    Image.new("RGB", (1, 5000), "blue").save(folder / "line.png")
    Image.new("RGB", (20_000, 300), "green").save(folder / "long.png")
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(folder / "cmyk.jpg", quality=100)
    Image.new("RGBA", (9, 9), (10, 20, 30, 0)).save(folder / "alpha.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 128)).save(folder / "half alpha.png")
    blue.convert("P").save(folder / "palette.png")
    Image.new("P", (9, 9), 0).save(folder / "palette with a clear colour.png", transparency=0)
    Image.fromarray(np.full((9, 9), 100 * 257, np.uint16)).save(folder / "16 bit.png")
    Image.new("1", (9, 9), 1).save(folder / "black and white.png")
    for kind in ("gif", "webp", "png"):
        red.save(folder / f"animated.{kind}", save_all=True, append_images=[blue] * 3, **quality(kind))


def quality(kind: str) -> dict[str, Any]:
    return {"lossless": True} if kind == "webp" else {}


def save_broken(folder: Path) -> None:
    write_png_header(folder / "huge.png", 20_000, 20_000)
    Image.new("RGB", (300, 300), "red").save(folder / "whole.jpg")
    raw = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(raw[: len(raw) - 400])
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()


def save_table(folder: Path, rows: dict[str, str]) -> Source:
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("image", "caption"), *rows.items()])
    return open_source({"use": "csv", "path": str(folder / "captions.csv")})


def loader(source: Source, **settings: Any) -> Loader:
    inputs = {
        "image": parse_input({"type": "image", "size": SIZE, "mean": (0, 0, 0), "std": (1, 1, 1)}),
        "caption": parse_input({"type": "text", "tokenizer": "words", "max_length": 16}),
    }
    words = WordPiece(WordPiece.Config(vocab_size=200))
    prepare_tokenizers({"words": words}, inputs, {"main": source})
    return Loader(source, inputs, {"words": words}, **{"batch": 4, "train": False, "skip_limit": 1.0, **settings})


def test_pictures_of_every_kind_are_used_as_they_look_on_white(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    data_loader = loader(save_table(tmp_path, dict.fromkeys(GOOD, "a picture")))
    pixels = torch.cat([batch.values["image"].pixels for batch in data_loader])
    assert not data_loader.skipped
    for seen, (name, colour) in zip(pixels, GOOD.items(), strict=True):
        assert abs(255 * seen - torch.tensor(colour).view(3, 1, 1)).max() <= 3, name


def test_pictures_that_cannot_be_used_are_skipped_with_their_name_and_a_reason(tmp_path: Path) -> None:
    save_broken(tmp_path)
    data_loader = loader(save_table(tmp_path, {**dict.fromkeys(BROKEN, "a picture"), "whole.jpg": "the last"}))
    before = psutil.Process().memory_info().rss
    assert [batch.rows for batch in data_loader] == [(6,)]
    assert psutil.Process().memory_info().rss - before < 150e6, "nothing huge was decoded"
    for (index, reason), (name, says) in zip(data_loader.skipped.items(), BROKEN.items(), strict=True):
        assert name in reason
        assert any(word in reason for word in says.split("|")), reason
        assert index < 6


def test_captions_of_any_length_and_script_are_used_and_fast(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for number in range(len(CAPTIONS)):
        shutil.copy(tmp_path / "a.png", tmp_path / f"{number}.png")
    rows = {f"{number}.png": words for number, words in enumerate(CAPTIONS.values())}
    data_loader = loader(save_table(tmp_path, rows))
    began = time.process_time()
    (batch,) = data_loader
    assert time.process_time() - began < 0.5
    assert batch.values["caption"].lengths.tolist()[0] == 16
    assert batch.values["caption"].ids.shape == (3, 16)
    assert not data_loader.skipped


@pytest.mark.parametrize("caption", ["", "   ", "\t\n"])
def test_an_empty_caption_is_skipped(tmp_path: Path, caption: str) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    data_loader = loader(save_table(tmp_path, {"a.png": caption, "b.png": "there"}))
    assert [batch.rows for batch in data_loader] == [(1,)]
    assert data_loader.skipped == {0: "caption is empty"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_that_moves_in_mid_run_stops_it_with_reasons(tmp_path: Path, workers: int) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / f"{number}.png")
    data_loader = loader(
        save_table(tmp_path, {f"pictures/{n}.png": "a picture" for n in range(40)}),
        train=True,
        skip_limit=None,
        workers=workers,
    )
    batches = iter(data_loader)
    next(batches)
    shutil.move(tmp_path / "pictures", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="records are broken") as caught:
        list(islice(batches, 30))
    assert "No such file" in caught.value.problems[0].hints[0]

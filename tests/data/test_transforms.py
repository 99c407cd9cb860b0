"""Pictures of every kind and size become squares; random crops follow their draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compose_vlp.blueprint.inputs import ImageAugment, ImageInput
from compose_vlp.data import BadRecord
from compose_vlp.data.draws import Draws
from compose_vlp.data.pictures import MOST_PIXELS, open_picture, open_reduced
from compose_vlp.data.pixels import to_rgb
from compose_vlp.data.transforms import ImageTransform, random_box
from tests.data.support import write_png_header

WHITE = (255, 255, 255)


def transform(**settings: Any) -> ImageTransform:
    return ImageTransform(ImageInput(**settings))


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I", "I;16", "F", "YCbCr", "HSV", "PA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(np.full((5, 7), 100, np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(np.full((5, 7), 100 * 257, np.uint16))
    else:
        picture = grey.convert("P").convert("PA") if mode == "PA" else grey.convert("RGB").convert(mode)
    rgb = to_rgb(picture, WHITE)
    assert rgb.mode == "RGB"
    assert rgb.size == (7, 5)
    if mode != "1":
        assert abs(np.asarray(rgb).astype(int) - 100).max() <= 2


@pytest.mark.parametrize("kind", ["alpha", "palette", "key"])
def test_transparent_pixels_show_the_ground(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.png"
    if kind == "alpha":
        Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(file)
    elif kind == "palette":
        Image.new("P", (4, 4), 0).save(file, transparency=0)
    else:
        Image.new("RGB", (4, 4), (1, 2, 3)).save(file, transparency=(1, 2, 3))
    assert np.asarray(to_rgb(open_picture(file), (255, 128, 0))).tolist() == [[[255, 128, 0]] * 4] * 4


def test_half_transparent_pixels_mix_with_the_ground() -> None:
    mixed = to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), WHITE)
    assert abs(np.asarray(mixed).astype(int) - 127).max() <= 1


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(to_rgb(open_picture(tmp_path / "a.gif"), WHITE))[0, 0].tolist() == [255, 0, 0]


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    gradient(40, 20).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (20, 40)


def broken_files(folder: Path) -> dict[str, Path]:
    gradient(60, 60).save(folder / "whole.png")
    gradient(60, 60).save(folder / "whole.jpg")
    gradient(60, 60).save(folder / "whole.gif")
    files = {"missing": folder / "missing.png", "a folder": folder}
    for kind in ("png", "jpg", "gif"):
        raw = (folder / f"whole.{kind}").read_bytes()
        for name, content in {"short": raw[: len(raw) // 2], "empty": b"", "words": b"not a picture" * 9}.items():
            files[f"{name} {kind}"] = folder / f"{name}.{kind}"
            files[f"{name} {kind}"].write_bytes(content)
    raw = (folder / "whole.png").read_bytes()
    (folder / "flipped.png").write_bytes(raw[:50] + bytes(byte ^ 0x55 for byte in raw[50:90]) + raw[90:])
    return {**files, "flipped": folder / "flipped.png"}


def test_broken_files_are_bad_records_that_name_the_file(tmp_path: Path) -> None:
    for name, file in broken_files(tmp_path).items():
        with pytest.raises(BadRecord) as caught:
            open_picture(file)
        assert file.name in str(caught.value), name


def test_a_picture_too_large_to_decode_is_a_bad_record(tmp_path: Path) -> None:
    write_png_header(tmp_path / "huge.png", 20_000, 20_000)
    with pytest.raises(BadRecord, match=r"huge\.png"):
        open_picture(tmp_path / "huge.png")
    assert 20_000 * 20_000 > MOST_PIXELS > 9000 * 9000


def test_a_picture_just_over_the_limit_is_a_bad_record(tmp_path: Path) -> None:
    write_png_header(tmp_path / "large.png", MOST_PIXELS // 5000 + 1, 5000)
    with pytest.raises(BadRecord, match="more than 89,000,000"):
        open_picture(tmp_path / "large.png")


# --- large JPEGs decoded small ------------------------------------------------------------------------------------


def jpeg(folder: Path, width: int, height: int, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(width, height).save(folder / "a.jpg", quality=95, exif=exif)
    return folder / "a.jpg"


@pytest.mark.parametrize(
    ("settings", "decoded"),
    [
        ({"size": 25}, (250, 175)),  # 700 is 28 times 25: an eighth is the most that a JPEG offers
        ({"size": 50}, (500, 350)),
        ({"size": 100}, (1000, 700)),
        ({"size": 200}, (2000, 1400)),  # a half would be 3.5 times the size: crops of a quarter need 4 times
        ({"size": 100, "augment": None}, (500, 350)),
        ({"size": 100, "augment": None, "resize": "pad"}, (250, 175)),
        ({"size": 350, "augment": None, "resize": "pad"}, (1000, 700)),
    ],
)
def test_in_training_a_jpeg_is_decoded_no_larger_than_twice_what_is_needed(
    tmp_path: Path, settings: dict[str, Any], decoded: tuple[int, int]
) -> None:
    image_transform = transform(**{"augment": ImageAugment(crop=(0.25, 1)), **settings})
    opened = open_reduced(jpeg(tmp_path, 2000, 1400), image_transform.reducible)
    assert opened.picture.size == decoded
    assert (opened.width, opened.height) == (2000, 1400)


def test_a_turned_jpeg_decoded_small_is_turned_too(tmp_path: Path) -> None:
    opened = open_reduced(jpeg(tmp_path, 800, 400, orientation=6), transform(size=50).reducible)
    assert opened.picture.size == (100, 200)
    assert (opened.width, opened.height) == (400, 800)


def test_the_crop_of_a_small_decoded_picture_is_that_of_the_whole(tmp_path: Path) -> None:
    image_transform = transform(size=32, augment=ImageAugment(crop=(0.3, 0.6), flip=0.5))
    whole = open_reduced(jpeg(tmp_path, 1603, 1201))
    small = open_reduced(tmp_path / "a.jpg", image_transform.reducible)
    assert whole.picture.width > 4 * small.picture.width
    for seed in range(20):
        near = image_transform(whole.picture, Draws(seed)).astype(int)
        far = image_transform(small.picture, Draws(seed), (small.width, small.height)).astype(int)
        assert abs(near - far).max() <= 6


def test_png_pictures_and_small_jpegs_are_decoded_as_they_are(tmp_path: Path) -> None:
    gradient(1600, 1200).save(tmp_path / "a.png")
    assert open_reduced(tmp_path / "a.png", transform(size=32).reducible).picture.size == (1600, 1200)
    assert open_reduced(jpeg(tmp_path, 90, 70), transform(size=32).reducible).picture.size == (90, 70)


# --- squares ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (400, 100), (30, 31), (32, 32)])
@pytest.mark.parametrize("train", [False, True])
def test_any_size_becomes_the_square(resize: str, size: tuple[int, int], train: bool) -> None:
    augment = ImageAugment(crop=(0.2, 1.0), flip=0.5)
    image_transform = transform(size=32, resize=resize, augment=augment)
    pixels = image_transform(gradient(*size), Draws(0) if train else None)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8


def test_a_square_of_the_right_size_passes_untouched() -> None:
    pixels = np.asarray(gradient(16, 16))
    assert transform(size=16)(pixels) is pixels


def test_stretch_crop_and_pad_keep_what_they_say() -> None:
    wide = Image.fromarray(np.repeat(np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]), 60, 0).repeat(60, 1))
    middle = {
        how: np.asarray(transform(size=60, resize=how, interpolation="nearest", ground=(9, 9, 9))(wide))
        for how in ("stretch", "crop", "pad")
    }
    assert middle["stretch"][30, [5, 30, 55]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert (middle["crop"] == [0, 255, 0]).all()
    assert middle["pad"][30, [5, 30, 55]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert (middle["pad"][[2, 57]] == 9).all()


def test_crop_and_normalisation_are_open_clips_to_the_bit() -> None:
    open_clip = pytest.importorskip("open_clip")
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    reference = open_clip.image_transform(224, is_train=False, mean=mean, std=std)
    ours = transform(size=224, resize="crop", mean=mean, std=std)
    for size in [(500, 375), (333, 500), (224, 224), (97, 101), (640, 113)]:
        picture = gradient(*size)
        assert torch.equal(ours.normalise(np.stack([ours(picture)]))[0], reference(picture))


def test_normalise_is_per_channel() -> None:
    image_transform = transform(size=1, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    pixels = np.full((2, 1, 1, 3), 255, np.uint8)
    assert image_transform.normalise(pixels).flatten(1).tolist() == [[1.0, 1.0, 0.0]] * 2
    assert image_transform.normalise(pixels).is_contiguous()


# --- augmentation -----------------------------------------------------------------------------------------------


def test_random_boxes_keep_within_area_and_proportions() -> None:
    augment = ImageAugment(crop=(0.3, 0.6), ratio=(0.5, 2.0))
    for seed in range(300):
        left, top, right, bottom = random_box(200, 120, augment, Draws(seed))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 120
        assert 0.28 < (right - left) * (bottom - top) / (200 * 120) < 0.62
        assert 0.48 < (right - left) / (bottom - top) < 2.1


def test_a_box_that_cannot_be_had_is_the_centre_within_proportions() -> None:
    augment = ImageAugment(crop=(1.0, 1.0))
    assert random_box(100, 10, augment, Draws(0)) == (44, 0, 57, 10)
    assert random_box(10, 100, augment, Draws(0)) == (0, 44, 10, 57)


def test_flip_mirrors_and_its_rate_holds() -> None:
    image_transform = transform(size=32, augment=ImageAugment(flip=0.25))
    picture = gradient(32, 32)
    straight = image_transform(picture)
    flipped = [bool((image_transform(picture, Draws(seed)) != straight).any()) for seed in range(400)]
    assert 0.2 < np.mean(flipped) < 0.3
    seed = flipped.index(True)
    assert np.array_equal(image_transform(picture, Draws(seed)), straight[:, ::-1])


def test_equal_draws_show_the_same_part_at_two_sizes() -> None:
    augment = ImageAugment(crop=(0.2, 0.4), flip=0.5)
    small, large = transform(size=16, augment=augment), transform(size=128, augment=augment)
    picture = gradient(300, 200)
    for seed in range(20):
        low, high = small(picture, Draws(seed)).astype(int), large(picture, Draws(seed)).astype(int)
        assert abs(high.reshape(16, 8, 16, 8, 3).mean((1, 3)) - low).max() < 4


def test_jitter_is_torchvisions_three_factors_in_a_drawn_order() -> None:
    from torchvision.transforms import functional as tv  # type: ignore[import-untyped]

    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    picture = gradient(40, 30)
    image_transform = transform(size=24, augment=ImageAugment(jitter=0.4))
    orders = set()
    for seed in range(20):
        draws = Draws(seed)
        draws.chance(0)  # of mirroring
        expected, order = Image.fromarray(transform(size=24)(picture)), draws.shuffled(range(3))
        for number in order:
            expected = steps[number](expected, draws.between(0.6, 1.4))
        assert np.array_equal(image_transform(picture, Draws(seed)), np.asarray(expected))
        orders.add(tuple(order))
    assert len(orders) > 3


def test_without_draws_nothing_is_augmented() -> None:
    picture = gradient(50, 50)
    assert np.array_equal(
        transform(size=32, augment=ImageAugment(crop=(0.1, 0.2), flip=1.0))(picture), transform(size=32)(picture)
    )


def test_real_pictures_with_transparency(real_data: Callable[[str], Path]) -> None:
    file = next(iter(sorted((real_data("nlvr") / "images").glob("*.png"))))
    picture = open_picture(file)
    assert picture.size == (400, 100)
    pixels = transform(size=64, resize="pad")(picture)
    assert (pixels[0] == 255).all()
    assert pixels[32].std() > 10

"""How pictures are made ready, as other libraries write it down."""

from __future__ import annotations

from typing import Any, Final

from compose_vlp.blueprint.inputs import ImageInput

RESAMPLING: Final = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers. Transformers resizes tensors, for which torchvision has no lanczos."""


def transformers_settings(made: ImageInput) -> dict[str, Any]:
    """Give the settings of an image processor of transformers that makes pictures as this input does."""
    square = {"height": made.size, "width": made.size}
    cropped = {"size": {"shortest_edge": made.size}, "do_center_crop": True, "crop_size": square}
    stretched = {"size": square, "do_center_crop": False}
    return {
        **(cropped if made.resize == "crop" else stretched),
        "default_to_square": made.resize != "crop",
        "resample": RESAMPLING[made.interpolation],
        "image_mean": list(made.mean),
        "image_std": list(made.std),
    }


def transformers_misfits(name: str, made: ImageInput) -> list[str]:
    """Tell what of an input an image processor of transformers cannot do."""
    problems = []
    if made.resize == "pad":
        problems.append(f"inputs.{name}.resize is pad, where its processor has stretch and crop")
    if made.interpolation not in RESAMPLING:
        problems.append(f"inputs.{name}.interpolation is {made.interpolation}, where it has {', '.join(RESAMPLING)}")
    return problems


OPEN_CLIP_RESIZE: Final = {"crop": "shortest", "pad": "longest", "stretch": "squash"}


def open_clip_settings(made: ImageInput) -> dict[str, Any]:
    """Give the `preprocess_cfg` of open_clip that makes pictures as this input does."""
    return {
        "size": made.size,
        "mode": "RGB",
        "mean": list(made.mean),
        "std": list(made.std),
        "interpolation": made.interpolation,
        "resize_mode": OPEN_CLIP_RESIZE[made.resize],
        "fill_color": made.ground[0],
    }


def open_clip_misfits(name: str, made: ImageInput) -> list[str]:
    """Tell what of an input open_clip's preprocessing cannot do."""
    problems = []
    if made.interpolation not in ("bilinear", "bicubic"):
        problems.append(f"inputs.{name}.interpolation is {made.interpolation}, where it has bilinear, bicubic")
    if made.resize == "pad" and len(set(made.ground)) > 1:
        problems.append(f"inputs.{name}.ground is {list(made.ground)}, where it has a grey")
    return problems

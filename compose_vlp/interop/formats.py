"""Names of the formats that a trained model is exported as; nothing heavy is imported for them."""

from __future__ import annotations

from typing import Final

from compose_vlp.errors import UserError, did_you_mean

PLAIN: Final = "safetensors"
"""One file of the names that `start` reads."""
FILES: Final = ("beit3", "open_clip_coca", "vlmo")
"""One file of another implementation's names."""
ONNX: Final = "onnx"
LIBRARIES: Final = ("open_clip", "transformers")
"""A folder that a library loads."""
FOLDERS: Final = (ONNX, *LIBRARIES)
"""Formats that fill a folder."""
ALL: Final = (PLAIN, *FILES, *FOLDERS)


def check_form(form: str) -> None:
    """Refuse the name of no format.

    Raises:
        UserError: it is none; offers the nearest.
    """
    if form not in ALL:
        hints = did_you_mean(form, ALL) or [f"formats: {', '.join(ALL)}"]
        raise UserError(f"no format is called {form!r}", hints=hints)

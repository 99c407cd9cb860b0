"""Constant lists of texts: classes by name, those of zero-shot classification, the answers of closed questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compose_vlp.blueprint.inputs import LabelInput, TextInput
from compose_vlp.errors import UserError
from compose_vlp.files import is_file, lines_of, written_path

SLOT = "{}"


def read_table(settings: TextInput, lines: Sequence[str] | None = None) -> tuple[list[str], list[int]]:
    """Read the texts of an input's table, each in every template, and for each the number of the line that it is of.

    Args:
        settings: an input with a table.
        lines: what stands in the place of the file's lines.

    Raises:
        UserError: a file is missing or empty, or a template has no `{}`.
    """
    if settings.table is None:
        raise ValueError("this input has no table")
    lines = read_lines(settings.table) if lines is None else lines
    templates = read_lines(settings.templates) if settings.templates is not None else [SLOT]
    for template in templates:
        if SLOT not in template:
            raise UserError(f"{settings.templates}: {template!r} has no {SLOT} for the text of the table")
    texts = [template.replace(SLOT, line) for line in lines for template in templates]
    return texts, [number for number in range(len(lines)) for _ in templates]


def class_names(settings: LabelInput) -> tuple[str, ...] | None:
    """Read the names of a label's classes by number, those of a file read; None where they have none.

    Raises:
        UserError: the file is missing or empty.
    """
    return tuple(read_lines(settings.classes)) if isinstance(settings.classes, str) else settings.classes


def read_lines(path: str) -> list[str]:
    """Read the lines of a text file that hold anything, without the white space around them."""
    file = written_path(path)
    if not is_file(file):
        raise UserError(f"no file {path!r}", hints=[f"looked from {Path.cwd()}"])
    try:
        lines = lines_of(file)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error}") from error
    if not lines:
        raise UserError(f"{path} is empty")
    return lines

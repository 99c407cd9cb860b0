"""Words that come with the weights: a run that begins from another's word table begins from its vocabulary, too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compose_vlp.blueprint.patterns import matches
from compose_vlp.files import folder_aside, written_path
from compose_vlp.runtime.sources import open_tokenizers
from compose_vlp.runtime.state.new_folder import RUN_FILE

if TYPE_CHECKING:
    from compose_vlp.blueprint.sections import Start
    from compose_vlp.graph.graph import CheckedBlueprint

TOKENIZERS = "tokenizers"
"""Below a run's folder: its vocabularies, by the tokenizer's name."""


def take_vocabularies(blueprint: CheckedBlueprint, run: Path, note: Callable[[str], None]) -> None:
    """Copy into a new run's folder what the first run that `start` takes word tables from has learnt.

    A tokenizer with a file of its own keeps it; one that would be learnt from the corpus would give the table's rows to
    other words.
    """
    for name, tokenizer in open_tokenizers(blueprint).items():
        mine, brought = run / TOKENIZERS / name, brought_vocabulary(blueprint, name)
        if not tokenizer.ready and not mine.is_dir() and brought is not None:
            with folder_aside(mine) as folder:
                shutil.copytree(brought, folder, dirs_exist_ok=True)
            note(f"the words of `{name}` are those of {brought.parent.parent}")


def brought_vocabulary(blueprint: CheckedBlueprint, tokenizer: str) -> Path | None:
    """The vocabulary of the first run that `start` takes word tables from, where that run has learnt one."""
    for item in blueprint.start:
        folder = written_path(item.origin or "") / TOKENIZERS / tokenizer
        if (folder.parent.parent / RUN_FILE).is_file() and folder.is_dir() and _takes_words(blueprint, item):
            return folder
    return None


def _takes_words(blueprint: CheckedBlueprint, item: Start) -> bool:
    """Does the item fill a table of words?"""
    tables = (
        f"{name}.{part.kind.parts['embedding']}"
        for name, part in blueprint.components.items()
        if "embedding" in part.kind.parts
    )
    return item.to is None or any(matches(pattern, table) for table in tables for pattern in item.to)

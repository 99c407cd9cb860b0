"""Guesses from a look at a data set: which fields a blueprint's inputs want, and why nothing of it can be used."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from compose_vlp.data.mixture import Mixture
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.source import BadRecord, Source
from compose_vlp.data.survey import Survey, spread_evenly
from compose_vlp.data.survey import survey as look_over
from compose_vlp.readable import several

CAPTIONS = ("caption", "captions", "text", "txt", "sentence", "comment", "title", "description", "alt", "raw", "prompt")
"""What data sets call a picture's text, the likeliest first."""
ASKED = frozenset({"question", "statement", "pair_statement", "answer", "answers"})
"""Fields of data whose texts are no captions."""
LOOKED_AT = 5
LOOKED_AT_OF_PART = 100
"""Records of each part of a mixture that are read for a guess."""
MOST_FOLDERS = 2000
"""Folders that are searched for a picture that is missing."""


def further_fields(survey: Survey) -> dict[str, str]:
    """Propose what `fields` has to say so that blueprints, which read `image` and `caption`, read this data."""
    fields: dict[str, str] = {}
    if survey.pictures and "image" not in survey.pictures:
        fields["image"] = next(iter(survey.pictures))
    if survey.pictures and "caption" not in survey.texts and not ASKED & survey.texts.keys():
        by_name = {name.lower(): name for name in survey.texts}
        wordy = [name for name, texts in survey.texts.items() if texts.words.median >= 2]
        named = next((by_name[name] for name in CAPTIONS if name in by_name), None)
        longest = max(wordy, key=lambda name: survey.texts[name].words.median, default=None)
        if named or longest:
            fields["caption"] = named or longest or ""
    return fields


def why_nothing_is_used(source: Source, survey: Survey) -> list[str]:
    """Guess why every record is broken, the likeliest reason first; of a mixture, for each of its parts."""
    if isinstance(source, Renamed):
        return why_nothing_is_used(source.source, survey)
    if isinstance(source, Mixture):
        return [
            f"{name}: {guess}"
            for name, part in zip(source.names, source.sources, strict=True)
            for guess in why_nothing_is_used(part, look_over(part, spread_evenly(len(part), LOOKED_AT_OF_PART)))
        ]
    settings = {"use": source.kind_name, **source.config.model_dump()}
    guesses = list(_of_encoding(settings, survey)) or list(_of_lines(settings, survey))
    if not guesses:
        guesses = list(_of_pictures(settings, source, survey))
    return guesses


def _of_encoding(settings: Mapping[str, Any], survey: Survey) -> Iterator[str]:
    """Suspect a file that is text, but in another encoding."""
    if settings["use"] not in ("csv", "jsonl"):
        return
    unread = sum("no text in UTF-8" in reason for reason in survey.broken.values())
    if unread > len(survey.broken) / 2:
        file = Path(settings["path"])
        written = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(file))} > {shlex.quote(f'utf8_{file.name}')}"
        yield f"the file is in another encoding than UTF-8, often Windows-1252: `{written}`"


def _of_lines(settings: Mapping[str, Any], survey: Survey) -> Iterator[str]:
    """Suspect a table that is cut into cells at the wrong letters."""
    if settings["use"] != "csv":
        return
    reasons = list(survey.broken.values())
    ragged = sum(" headings" in reason and " cells under " in reason for reason in reasons)
    unpaired = sum("quotation marks do not pair" in reason for reason in reasons)
    if unpaired > len(reasons) / 2:
        yield "most lines have lone quotation marks: `quoting: none` takes marks for what they are"
    if ragged > len(reasons) / 2:
        yield _separators(Path(settings["path"]))


def _separators(file: Path) -> str:
    from compose_vlp.data.delimited import first_lines

    headings, *lines = first_lines(file, 1 + LOOKED_AT) or [""]
    names = {"\t": "a tab", ";": "a semicolon", ",": "a comma", "|": "a bar"}
    for mark, name in names.items():
        if lines and mark not in headings and all(mark in line for line in lines):
            return f"the lines have {name} where the headings have none: write the headings as the lines are"
    return "`separator` says what parts the cells, where the file does not show it"


def _of_pictures(settings: Mapping[str, Any], source: Source, survey: Survey) -> Iterator[str]:
    """Suspect pictures that lie elsewhere, in a field of another name, or that are none."""
    missing = [path for path in islice(_paths(source), LOOKED_AT) if not path.exists()]
    if missing and settings["use"] in ("csv", "jsonl", "coco_captions", "karpathy"):
        root = Path(settings.get("images") or Path(settings["path"]).parent)
        folder = _folder_with(missing[0], root)
        if folder is not None:
            yield f"its pictures lie in {folder}: `--images {folder}` (in a blueprint `images: {folder}`)"
        else:
            where = "`--images FOLDER` (in a blueprint `images: FOLDER`) is where their paths start"
            yield f"no picture lies where the records say ({missing[0]}): {where}"
    kinds = Counter(reason.rpartition(": ")[2] for reason in survey.broken.values())
    reason, count = kinds.most_common(1)[0]
    if not missing and count > len(survey.broken) / 2:
        yield f"{several(count, 'record')}: {reason}"


def _paths(source: Source) -> Iterator[Path]:
    """Yield the picture files that the first records name."""
    for index in range(min(len(source), LOOKED_AT)):
        try:
            yield from (value for value in source.record(index).values() if isinstance(value, Path))
        except BadRecord:
            continue


def _folder_with(missing: Path, root: Path) -> Path | None:
    """Find the folder below `root`, or beside it, from which the end of a missing file's path leads to a file."""
    parts = missing.parts
    for top in (root, root.parent):
        for place in islice((Path(place) for place, _, _ in os.walk(top)), MOST_FOLDERS):
            for length in range(min(len(parts), 4), 0, -1):
                if place.joinpath(*parts[-length:]).is_file():
                    return place
    return None

"""Which source reads a file or folder, from its name and what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compose_vlp.data.delimited import dialect_of, records_of
from compose_vlp.data.json_places import begins_list
from compose_vlp.data.places import find_file, find_folder, names_picture
from compose_vlp.data.source import BadRecord, open_source
from compose_vlp.data.stores import StoreError, is_address, list_files, shown_address
from compose_vlp.errors import UserError
from compose_vlp.files import is_folder

BY_ENDING = {
    ".arrow": "datasets",
    ".csv": "csv",
    ".json": "",  # what is in it tells
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "datasets",
    ".tar": "webdataset",
    ".tsv": "csv",
    ".txt": "datasets",
}
PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip", ".7z"})
PROBED = 5


def is_data(word: str) -> bool:
    """Tell whether a word of a command line is meant as data: by its ending, or since it is there."""
    ending = Path(word).suffix.lower()
    is_file = ending not in (".yaml", ".yml") and Path(word).is_file()
    return ending in BY_ENDING or is_file or is_folder(word) or is_address(word)


def settings_of(path: str, images: str | None = None) -> dict[str, Any]:
    """Write the entry of `data` that reads a file or folder; `images` is where its pictures are, if not beside it.

    Raises:
        UserError: it is not there, or it cannot be seen what it is.
    """
    if is_folder(path):
        return _folder(path)
    use = BY_ENDING.get(Path(path.partition("?")[0]).suffix.lower())
    if use is None and is_address(path):
        return {"use": "webdataset", "path": _shards_below(path)}
    if use is None:
        packed = Path(path).suffix.lower() in PACKED
        hints = ["it is packed: unpack it first"] if packed else [f"known endings: {', '.join(sorted(BY_ENDING))}"]
        raise UserError(f"it cannot be seen what {path!r} is", hints=hints)
    if use == "":
        if not _is_list_or_lines(find_file(path)):
            return _annotations(path, images)
        use = "jsonl"
    settings: dict[str, Any] = {"use": use, "path": path}
    if use in ("csv", "jsonl"):
        settings |= {"images": images} if images is not None else {}
        settings |= {"columns": columns} if use == "csv" and (columns := _columns_without_headings(path)) else {}
        pictures = _picture_fields(settings)
        if pictures != ("image",):
            settings["pictures"] = pictures
    return settings


def _is_list_or_lines(file: Path) -> bool:
    """Tell whether a JSON file holds records: a list, or an object on its first line and another on a later one."""
    with file.open("rb") as stream:
        beginning = stream.read(1 << 20)
    if begins_list(beginning):
        return True
    first, _, rest = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    try:
        return isinstance(json.loads(first), dict) and rest.lstrip().startswith(b"{")
    except (ValueError, RecursionError):
        return False


def _columns_without_headings(path: str) -> tuple[str, ...]:
    """Names for the columns of a table whose first line is a record, by what is in it; nothing, where it names them."""
    file = find_file(path)
    _, cells = next(records_of(file, dialect_of(file, None, None), None), (0, ""))
    pictures = [number for number, cell in enumerate(cells) if isinstance(cells, list) and names_picture(cell.strip())]
    if not pictures:
        return ()
    others = [number for number in range(len(cells)) if number not in pictures]
    caption = max(others, key=lambda number: len(cells[number]), default=None)
    names = {caption: "caption", pictures[0]: "image"}
    return tuple(names.get(number, f"column_{number + 1}") for number in range(len(cells)))


def _folder(path: str) -> dict[str, Any]:
    folder = find_folder(path)
    endings = {file.suffix.lower() for file in folder.iterdir()}
    if ".tar" in endings:
        return {"use": "webdataset", "path": str(folder / "*.tar")}
    library = any((folder / name).exists() for name in ("dataset_info.json", "dataset_dict.json"))
    described = any((folder / f"metadata.{ending}").exists() for ending in ("csv", "jsonl", "parquet"))
    if library or described or ".parquet" in endings:
        return {"use": "datasets", "path": path}
    return {"use": "folder", "path": path}


def _shards_below(address: str) -> str:
    """Give the pattern of the tar shards in a folder of a store."""
    pattern = f"{address.rstrip('/')}/*.tar"
    try:
        if list_files(pattern):
            return pattern
    except StoreError as error:
        raise error.for_user() from None
    raise UserError(
        f"{shown_address(address)} is no folder with tar shards",
        hints=["a table of a store is named by its file, as in s3://bucket/captions.csv"],
    )


def _annotations(path: str, images: str | None) -> dict[str, Any]:
    from compose_vlp.data.captioned import read_annotations

    _, content = read_annotations(path, "images")
    karpathy = any(isinstance(image, dict) and "sentences" in image for image in content["images"][:PROBED])
    use = "karpathy" if karpathy else "coco_captions"
    if images is None:
        raise UserError(f"{path} ({use}) does not say where its pictures are", hints=["`--images FOLDER` does"])
    return {"use": use, "path": path, "images": images}


def _picture_fields(settings: dict[str, Any]) -> tuple[str, ...]:
    """Find the fields in which the first records have names of picture files; `image` where none has."""
    source = open_source({**settings, "pictures": ()})
    for index in range(min(PROBED, len(source))):
        try:
            record = source.record(index)
        except BadRecord:
            continue
        fields = tuple(name for name, value in record.items() if isinstance(value, str) and names_picture(value))
        if fields:
            return fields
    return ("image",)

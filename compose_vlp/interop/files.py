"""Reading other implementations' weight files. Nothing in a file is run: pickles hold tensors, or are refused."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.files import is_file

WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
"""What distributed training and `torch.compile` put before the names of a model's weights."""
WITHIN = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What they put before the names of a part's."""
DEEPEST = 4
"""Keys below which a checkpoint's weights are looked for."""
OPTIMIZERS = re.compile(r"optim|scheduler|(?:^|_)scaler", re.IGNORECASE)
"""Keys of a checkpoint that hold tensors and no weights."""
NOT_WEIGHTS = {
    b"version https://git-lfs": ("is a pointer of Git LFS, not the file itself", "`git lfs pull` fetches the file"),
    b"<!doctype": ("is a web page, and no weights", "the download gave a page instead: open the address in a browser"),
    b"<html": ("is a web page, and no weights", "the download gave a page instead: open the address in a browser"),
    b"<?xml": ("is XML, and no weights", "the download gave an answer in words: read it"),
    b"{": ("is JSON, and no weights", "an index of weights is read with its folder; an answer in words, by you"),
    b"\x89hdf": ("is HDF5 (Keras), which is not read", "save the weights as .safetensors"),
    b"\x1f\x8b": ("is compressed by gzip", "unpack it first"),
}
"""How files begin that are often taken for weights, in lower case: what they are, and the way out."""


def read_state(path: str | Path, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch one (a state dict, or a checkpoint that holds some).

    The prefixes of distributed training and of `torch.compile` are taken off.

    Args:
        path: the file; what it is, its first bytes tell.
        inside: the key of the checkpoint under which they are, `state_dict_ema` or `callbacks.EMA.weights`, where it
            has several.

    Raises:
        UserError: no such file, or not one of tensors; several states, and none of them chosen.
    """
    file = Path(path)
    if not is_file(file):
        raise UserError(f"no file {str(file)!r}")
    _check_beginning(file)
    if _has_header(file) or (file.suffix == ".safetensors" and not zipfile.is_zipfile(file)):
        if inside is not None:
            raise UserError(f"{file} has no key {inside!r}", hints=["a .safetensors file is one state: leave `in` out"])
        return _plain(_safetensors(file))
    return unwrapped(_unpickled(file), str(file), inside)


def unwrapped(content: object, where: str = "the checkpoint", inside: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint, without prefixes.

    Raises:
        UserError: there is none; several, and `inside` names none of them.
    """
    states = dict(_states(content))
    if inside is not None:
        if inside not in states:
            near = did_you_mean(inside, states) or _keys(content, states)
            raise UserError(f"{where} has no weights under the key {inside!r}", hints=near)
        return _plain(states[inside])
    if not states:
        raise UserError(f"{where} holds no state dict", hints=_keys(content, states))
    if len(states) > 1:
        choices = " or ".join(f"`in: {key}`" for key in states)
        raise UserError(
            f"{where} holds the weights of {len(states)} models: {', '.join(states)}",
            hints=[f"say which, beside `from`: {choices}"],
        )
    return _plain(next(iter(states.values())))


def _states(content: object, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every state dict in a checkpoint by its key; of one that is a state itself, that one by the key `.`."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    below = [
        state
        for name, value in content.items()
        if isinstance(name, str) and not OPTIMIZERS.search(name)
        for state in _states(value, f"{key}.{name}" if key else name, depth + 1)
    ]
    own = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    weights = [name for name, tensor in own.items() if tensor.is_floating_point() and tensor.ndim]
    # A lone tensor beside a model's weights (those of the classes, a best score) is none of them.
    if weights and (not below or any("." in name for name in weights)):
        yield key or ".", own
    yield from below


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names without what wraps models."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        bare = name
        while (prefix := next((wrapper for wrapper in WRAPPERS if bare.startswith(wrapper)), None)) is not None:
            bare = bare.removeprefix(prefix)
        tensors[WITHIN.sub("", bare)] = tensor
    return tensors


def _keys(content: object, states: Mapping[str, object]) -> tuple[str, ...]:
    """List what a checkpoint has, for messages."""
    if states:
        return (f"keys with weights: {', '.join(states)}",)
    if not isinstance(content, Mapping):
        return (f"it holds a {type(content).__name__}",)
    return (f"its keys: {', '.join(str(key)[:60] for key in list(content)[:12])}",)


# --- files --------------------------------------------------------------------------------------------------------


def _check_beginning(file: Path) -> None:
    with file.open("rb") as stream:
        beginning = stream.read(256)
    if not beginning:
        raise UserError(f"{file} is empty", hints=["the download may have failed"])
    if _has_header(file):
        return
    plain = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, (reason, way_out) in NOT_WEIGHTS.items():
        if plain.startswith(mark):
            raise UserError(f"{file} {reason}", hints=[way_out])


def _has_header(file: Path) -> bool:
    """Tell whether a file begins with the length of a header and the header, as .safetensors do, whatever its name."""
    with file.open("rb") as stream:
        beginning = stream.read(9)
    return beginning[8:] == b"{" and int.from_bytes(beginning[:8], "little") < file.stat().st_size


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is no safetensors file: {error}") from error


def _unpickled(file: Path) -> object:
    """Read what a file of `torch.save` holds."""
    packed = zipfile.is_zipfile(file)
    if packed:
        _check_archive(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kinds = _kinds_wanted(file, str(error))
        if not kinds:
            raise UserError(
                f"{file} holds no plain tensors", hints=["it is no file that `torch.save` wrote, or a damaged one"]
            ) from error
        raise UserError(
            f"{file} asks for {', '.join(kinds)}: a file of anything but tensors is not opened",
            hints=[_saved_alone(file, kinds)],
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, AttributeError) as error:
        with file.open("rb") as stream:
            packed = packed or stream.read(2) == b"PK"
        raise UserError(
            f"{file} holds no plain tensors",
            hints=[
                "it is damaged or cut short" if packed else "it is no file that `torch.save` wrote, or a damaged one"
            ],
        ) from error


def _check_archive(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if not any(name.endswith("data.pkl") for name in names):
        held = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        raise UserError(
            f"{file} is a zip archive of something else than weights", hints=[f"it holds {held or 'nothing'}"]
        )


def _kinds_wanted(file: Path, reason: str) -> list[str]:
    """The classes and functions that a pickle asks for, beyond what tensors need; found without running it."""
    try:
        kinds = [str(kind) for kind in torch.serialization.get_unsafe_globals_in_checkpoint(file)]
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError):
        kinds = []  # the old format, which that function does not read
    kinds = kinds or re.findall(r"(?:GLOBAL|function|class|global:?) ([A-Za-z_][\w.]*\.\w+)", reason)
    kinds = [kind for kind in dict.fromkeys(kinds) if not kind.startswith("torch.serialization.")]
    return kinds if len(kinds) <= 4 else [*kinds[:4], f"{len(kinds) - 4} more"]


def _saved_alone(file: Path, kinds: list[str]) -> str:
    """How whoever trusts a file makes one of tensors alone of it."""
    whole = any(kind.startswith("torch.nn.") for kind in kinds)
    tensors = ".state_dict()" if whole else '["model"]'
    command = f'torch.save(torch.load("{file.name}", map_location="cpu", weights_only=False){tensors}, "tensors.pth")'
    return f"whoever trusts it can save its tensors alone: `{command}`" + (
        "" if whole else ", by the key they are under"
    )

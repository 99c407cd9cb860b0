"""Weight files of others: read, never run."""

import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from compose_vlp.errors import UserError
from compose_vlp.interop.files import read_state


def test_safetensors_and_pytorch_files_read_alike(tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.bin")
    for name in ("a.safetensors", "a.bin"):
        assert torch.equal(read_state(tmp_path / name)["a"], weights["a"])


STATE = {"stem.weight": torch.arange(6.0).view(2, 3), "norm.running": torch.ones(2), "steps": torch.tensor(7)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]}
NAMED_OPTIMIZER = {"state": {"stem.weight": {"exp_avg": torch.ones(2, 3)}}}


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in STATE.items()}


def saved(folder: Path, content: object, **settings: Any) -> Path:
    torch.save(content, folder / "a.pth", **settings)
    return folder / "a.pth"


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {**STATE, "epoch": 3, "args": {"lr": 0.1}},
        *({key: STATE} for key in ("state_dict", "model", "module", "model_state_dict", "state_dict_ema", "ema", "x")),
        {"model": {"state_dict": STATE}},
        {"state_dict": STATE, "optimizer": OPTIMIZER, "lr_scheduler": {"base": torch.ones(3)}, "epoch": 3},
        {"model": STATE, "optimizer": NAMED_OPTIMIZER, "scaler": {"scale": torch.ones(1)}},
        {"model": STATE, "best": torch.tensor(0.5), "class_weights": torch.ones(9), "rng": torch.zeros(9).byte()},
        *(under(prefix) for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module.")),
        {"module": under("_fsdp_wrapped_module.")},
    ],
)
@pytest.mark.parametrize("settings", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "old"])
def test_a_checkpoint_gives_its_weights_however_they_are_wrapped(
    tmp_path: Path, content: object, settings: dict[str, Any]
) -> None:
    read = read_state(saved(tmp_path, content, **settings))
    assert read.keys() == STATE.keys()
    assert all(torch.equal(tensor, read[name]) for name, tensor in STATE.items())


def test_prefixes_of_parts_are_taken_off_and_a_part_called_module_keeps_its_name(tmp_path: Path) -> None:
    state = {"vision._orig_mod.a": torch.ones(1), "text.module.b": torch.ones(1), "x_orig_mod.c": torch.ones(1)}
    assert list(read_state(saved(tmp_path, state))) == ["vision.a", "text.module.b", "x_orig_mod.c"]


def test_of_several_models_a_key_chooses(tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    file = saved(tmp_path, {"model": STATE, "callbacks": {"EMA": {"weights": other}}, "optimizer": NAMED_OPTIMIZER})
    assert torch.equal(read_state(file, "model")["stem.weight"], STATE["stem.weight"])
    assert torch.equal(read_state(file, "callbacks.EMA.weights")["stem.weight"], other["stem.weight"])
    with pytest.raises(UserError, match=r"holds the weights of 2 models: model, callbacks\.EMA\.weights") as caught:
        read_state(file)
    assert caught.value.problems[0].hints == ("say which, beside `from`: `in: model` or `in: callbacks.EMA.weights`",)
    with pytest.raises(UserError, match="has no weights under the key 'modle'") as caught:
        read_state(file, "modle")
    assert caught.value.problems[0].hints == ("did you mean 'model'?",)
    with pytest.raises(UserError, match="has no weights under the key 'optimizer'"):
        read_state(file, "optimizer")


def test_what_a_file_is_its_beginning_tells(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.pth")
    assert read_state(tmp_path / "a.pth")["a"].tolist() == [1, 1]
    torch.save({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    assert read_state(tmp_path / "b.safetensors")["a"].tolist() == [1, 1]
    with pytest.raises(UserError, match="has no key 'ema'"):
        read_state(tmp_path / "a.pth", "ema")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"<html><body>404</body></html>" * 99, "is a web page"),
        (b'{"error": "not found"}', "is JSON"),
        (b"<?xml version='1.0'?><Error/>", "is XML"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5"),
        (b"\x1f\x8b\x08\x00", "is compressed by gzip"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_taken_for_weights_are_told(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_state(tmp_path / name)
    assert caught.value.problems[0].hints


def test_archives_of_something_else_and_cut_files_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="is a zip archive of something else") as caught:
        read_state(tmp_path / "a.pth")
    assert caught.value.problems[0].hints == ("it holds readme.txt",)
    whole = saved(tmp_path, STATE).read_bytes()
    for length in (len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(UserError, match="holds no plain tensors") as caught:
            read_state(tmp_path / "cut.pth")
        assert caught.value.problems[0].hints == ("it is damaged or cut short",)


@pytest.mark.parametrize("settings", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "old"])
@pytest.mark.parametrize(
    ("content", "kind", "way_out"),
    [
        ({"model": STATE, "args": argparse.Namespace(lr=1)}, "argparse.Namespace", '["model"]'),
        ({"model": STATE, "best": np.float64(3.5)}, "multiarray.scalar", '["model"]'),
        ({"model": STATE, "history": np.arange(3)}, "_reconstruct", '["model"]'),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear", ".state_dict()"),
    ],
    ids=["Namespace", "scalar", "array", "module"],
)
def test_a_pickle_of_more_than_tensors_is_told_by_the_classes_that_it_wants(
    tmp_path: Path, content: object, kind: str, way_out: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="a file of anything but tensors is not opened") as caught:
        read_state(saved(tmp_path, content, **settings))
    message, hint = str(caught.value), caught.value.problems[0].hints[0]
    assert kind in message and message.isprintable()
    assert f'torch.load("a.pth", map_location="cpu", weights_only=False){way_out}, "tensors.pth")' in hint


def test_a_training_checkpoint_gives_its_weights_without_the_prefix_of_distributed_training(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"module.a": torch.ones(1)}}, tmp_path / "epoch_3.pt")
    assert list(read_state(tmp_path / "epoch_3.pt")) == ["a"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"asks for \w+\.system: a file of anything but tensors is not opened"):
        read_state(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_no_file_and_no_weights_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        read_state(tmp_path / "none.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        read_state(tmp_path / "empty.pt")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(UserError, match="no safetensors file"):
        read_state(tmp_path / "text.safetensors")
    (tmp_path / "text.bin").write_text("no tensors")
    with pytest.raises(UserError, match="holds no plain tensors"):
        read_state(tmp_path / "text.bin")

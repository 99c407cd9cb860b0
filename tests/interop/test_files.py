"""Weight files of others: read, never run."""

import os
from pathlib import Path

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


def test_a_training_checkpoint_gives_its_weights_without_the_prefix_of_distributed_training(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"module.a": torch.ones(1)}}, tmp_path / "epoch_3.pt")
    assert list(read_state(tmp_path / "epoch_3.pt")) == ["a"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="holds no plain tensors"):
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

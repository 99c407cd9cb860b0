from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compose_vlp.errors import UserError
from compose_vlp.runtime.state import checkpoint
from compose_vlp.runtime.state.checkpoint import latest, load, prune, save, step_folder


def state(value: float = 1.0, size: int = 8) -> dict[str, Any]:
    return {
        "model": {"layer.weight": torch.full((size,), value), "scale": torch.tensor(value)},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(size)}}, "param_groups": [{"betas": (0.9, 0.95)}]},
        "progress": {"step": 3, "loss": float("nan")},
    }


def save_steps(folder: Path, *steps: int) -> None:
    for step in steps:
        save(step_folder(folder, step), state(float(step)), step=step)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "one", state(2.0), step=3)
    actual = load(tmp_path / "one")
    assert actual["model"]["layer.weight"].tolist() == [2.0] * 8
    assert actual["model"]["scale"].shape == ()
    assert actual["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.95)
    assert list(actual["optimizer"]["state"]) == [0]
    assert actual["progress"]["loss"] != actual["progress"]["loss"]


def test_weights_are_a_file_that_any_tool_reads(tmp_path: Path) -> None:
    save(tmp_path / "one", state(), step=3)
    assert set(load_file(tmp_path / "one" / "model.safetensors")) == {"layer.weight", "scale"}


def test_one_part_is_read_without_the_others(tmp_path: Path) -> None:
    save(tmp_path / "one", state(), step=3)
    (tmp_path / "one" / "optimizer.safetensors").unlink()
    assert list(load(tmp_path / "one", only=("model",))) == ["model"]
    with pytest.raises(UserError, match=r"has no teacher; it has model, optimizer, progress"):
        load(tmp_path / "one", only=("teacher",))


def test_saving_again_replaces_the_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "one", state(1.0), step=3)
    save(tmp_path / "one", state(2.0), step=3)
    assert load(tmp_path / "one")["model"]["scale"].item() == 2.0
    assert names(tmp_path) == ["one"]


def test_latest_is_the_one_saved_last_even_if_training_went_back(tmp_path: Path) -> None:
    save_steps(tmp_path, 100, 300, 200)
    assert latest(tmp_path) == step_folder(tmp_path, 200)
    assert latest(tmp_path / "nowhere") is None


def test_prune_keeps_the_last_ones(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, 4)
    prune(tmp_path, 2)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]
    with pytest.raises(ValueError, match="keep=0"):
        prune(tmp_path, 0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("model.safetensors", cut, r"model\.safetensors is cut short: \d+ bytes, where \d+ were saved"),
        ("state.json", cut, r"state\.json is cut short"),
        ("optimizer.safetensors", flip, r"optimizer\.safetensors is damaged: its SHA-256"),
        ("model.safetensors", Path.unlink, r"model\.safetensors is missing"),
        ("manifest.json", cut, r"manifest\.json is damaged"),
        ("manifest.json", Path.unlink, r"has no manifest\.json"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, harm: Callable[[Path], None], message: str) -> None:
    save(tmp_path / "one", state(), step=3)
    harm(tmp_path / "one" / file)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "one")


def test_no_checkpoint_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint at"):
        load(tmp_path / "one")


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one", state(), step=3)
    file = tmp_path / "one" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match="later version"):
        load(tmp_path / "one")


def test_latest_passes_over_what_is_not_whole_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 1, 2, 3)
    cut(tmp_path / "step-00000003" / "model.safetensors")
    (tmp_path / "step-00000002" / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path) == step_folder(tmp_path, 1)
    assert "passing over checkpoint step-00000003" in caplog.text
    assert "passing over checkpoint step-00000002" in caplog.text


def test_another_blueprint_is_refused_with_the_differences(tmp_path: Path) -> None:
    saved = {"vision": {"use": "vit", "depth": 12, "sizes": [1, 2]}, "text": {"width": 512}}
    here = {"vision": {"use": "vit", "depth": 6, "sizes": [1, 3]}, "head": {"width": 512}}
    save(tmp_path / "one", state(), step=3, blueprint=saved)
    load(tmp_path / "one", blueprint=saved)
    with pytest.raises(UserError, match="is of another blueprint") as caught:
        load(tmp_path / "one", blueprint=here)
    assert caught.value.problems[0].hints == (
        "head.width: absent in the checkpoint, 512 here",
        "text.width: 512 in the checkpoint, absent here",
        "vision.depth: 12 in the checkpoint, 6 here",
        "vision.sizes.1: 2 in the checkpoint, 3 here",
    )


def test_many_differences_are_counted_not_listed(tmp_path: Path) -> None:
    save(tmp_path / "one", state(), step=3, blueprint={f"c{n:02}": 1 for n in range(20)})
    with pytest.raises(UserError) as caught:
        load(tmp_path / "one", blueprint={})
    assert caught.value.problems[0].hints[-1] == "and 12 more"


@pytest.mark.parametrize("culprit", ["save_file", "write_text", "fsync", "manifest", "rename"])
def test_a_full_disk_leaves_the_checkpoint_before_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    save_steps(tmp_path, 1)

    def full(*args: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if culprit == "save_file":
            patch.setattr(checkpoint, "save_file", full)
        elif culprit == "write_text":
            patch.setattr(Path, "write_text", full)
        elif culprit == "fsync":
            patch.setattr(os, "fsync", full)
        elif culprit == "manifest":
            patch.setattr(checkpoint, "write_atomic", full)
        else:
            patch.setattr(Path, "rename", full)
        with pytest.raises(UserError, match=r"cannot save checkpoint .*No space left on device") as caught:
            save_steps(tmp_path, 2)
    assert "step-00000001" in caught.value.problems[0].hints[0]
    assert "free there" in caught.value.problems[0].hints[1]
    assert names(tmp_path) == ["step-00000001"]
    assert load(tmp_path / "step-00000001")["model"]["scale"].item() == 1.0


def test_a_full_disk_while_replacing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_steps(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(UserError):
            save(step_folder(tmp_path, 1), state(9.0), step=1)
    assert load(step_folder(tmp_path, 1))["model"]["scale"].item() == 1.0


def test_a_file_that_the_system_will_not_let_grow_is_a_clear_error(tmp_path: Path) -> None:
    save_steps(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot save checkpoint .*File too large"):
            save(step_folder(tmp_path, 2), state(size=100_000), step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert latest(tmp_path) == step_folder(tmp_path, 1)
    assert names(tmp_path) == ["step-00000001"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, sys, torch
        from compose_vlp.errors import UserError
        from compose_vlp.runtime.state.checkpoint import latest, load, save, step_folder
        from pathlib import Path
        folder = Path({str(tmp_path)!r}) / "disk"
        save(step_folder(folder, 1), {{"model": {{"w": torch.ones(100_000)}}}}, step=1)
        try:
            save(step_folder(folder, 2), {{"model": {{"w": torch.ones(400_000)}}}}, step=2)
        except UserError as error:
            assert "No space left on device" in str(error), error
        else:
            sys.exit("saved on a full disk")
        assert os.listdir(folder) == ["step-00000001"], os.listdir(folder)
        assert load(latest(folder))["model"]["w"].sum() == 100_000
    """)
    if shutil.which("unshare") is None:
        pytest.skip("no `unshare`, which makes a small disk without being root")
    (tmp_path / "disk").mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path / "disk"} || exit 77; exec "$0" -c "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot save checkpoint"):
        save(tmp_path / "file" / "one", state(), step=1)


KILLED_WHILE_SAVING = """
import os, signal, sys, time, torch
from pathlib import Path
from compose_vlp.runtime.state.checkpoint import latest, load, prune, save, step_folder

folder = Path(sys.argv[1])
save(step_folder(folder, 0), {"model": {"w": torch.zeros(20_000)}}, step=0)
for attempt in range(40):
    child = os.fork()
    if child == 0:
        step = 1000 * attempt
        while True:
            step += 1
            save(step_folder(folder, step % 3), {"model": {"w": torch.full((20_000,), float(step))}}, step=step)
            prune(folder, 2)
    time.sleep(0.02 + 0.0017 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = latest(folder)
    assert found is not None, os.listdir(folder)
    assert load(found)["model"]["w"].unique().numel() == 1
save(step_folder(folder, 9), {"model": {"w": torch.zeros(1)}}, step=9)
assert not [name for name in os.listdir(folder) if name.startswith(".")], os.listdir(folder)
"""


def test_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_name_a_replaced_checkpoint_had_in_between_still_counts(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    step_folder(tmp_path, 2).rename(tmp_path / "step-00000002.replaced-abc")  # killed between two renames
    assert latest(tmp_path) == tmp_path / "step-00000002.replaced-abc"
    save_steps(tmp_path, 2)
    save_steps(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000002", "step-00000003"]

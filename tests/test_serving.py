"""A finished model out of MLflow: loaded by MLflow's own means, where nothing of its run is left, and asked."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compose_vlp.api import Blueprint
from compose_vlp.runtime.training.trainer import TrainOptions
from compose_vlp.tracking import mlflow_run_id, sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = ("stages.pretrain.length=3 steps", "stages.pretrain.batch=6", "data.pairs.count=20", "data.pairs.size=16")


@dataclass
class Finished:
    """A tracked run whose folder is gone, the store that has its model, and what it said before."""

    store: str
    run_id: str
    picture: Path
    caption: str
    embedding: list[float]

    @property
    def uri(self) -> str:
        return f"runs:/{self.run_id}/model"


@pytest.fixture(scope="module")
def finished(small_coca: Callable[..., Blueprint], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("served")
    picture = folder / "red.png"
    Image.new("RGB", (30, 20), "red").save(picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        run = small_coca(*STEPS).train(out="run", options=TrainOptions(seed=1, device="cpu"))
        sync(run.folder.path)  # where a busy machine took longer than training waits
        run_id = mlflow_run_id(run.folder.path)
        assert run_id is not None
        answers = run.caption(picture), run.text_embedding("a red circle").tolist()
        shutil.rmtree(folder / "run")
        yield Finished(f"sqlite:///{folder / 'mlflow.db'}", run_id, picture, *answers)


def packed(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


@pytest.fixture
def model(finished: Finished) -> Any:
    import mlflow

    mlflow.set_tracking_uri(finished.store)
    return mlflow.pyfunc.load_model(finished.uri)


def test_it_says_of_a_picture_what_its_run_said(finished: Finished, model: Any) -> None:
    pandas = pytest.importorskip("pandas")
    held = packed(finished.picture)
    pictures = [held, f"data:image/png;base64,{held}"]
    assert model.predict(pandas.DataFrame({"image": pictures})) == [finished.caption] * 2
    for encoded in (held, finished.picture.read_bytes()):
        assert model.predict({"image": [encoded]}) == [finished.caption]


def test_the_example_that_mlflow_shows_is_answered(finished: Finished, model: Any) -> None:
    assert list(model.input_example.columns) == ["image"]
    (text,) = model.predict(model.input_example)
    assert isinstance(text, str)


def test_any_output_can_be_asked_for(finished: Finished, model: Any) -> None:
    (actual,) = model.predict({"caption": ["a red circle"]}, params={"output": "text_embedding"})
    assert actual == pytest.approx(finished.embedding)
    settings = json.dumps({"beams": 2, "max_length": 4})
    (text,) = model.predict({"image": [packed(finished.picture)]}, params={"settings": settings})
    assert isinstance(text, str)


@pytest.mark.parametrize(
    ("given", "params", "says"),
    [
        ({"caption": ["a"]}, {}, "there is no image"),
        ({"image": ["nowhere.png"]}, {}, "no picture in base64, and this server opens no files"),
        ({"image": ["{path}"]}, {}, "no picture in base64, and this server opens no files"),
        ({"image": ["{picture}"] * 65}, {}, "65 values of 'image'; a request may have 64"),
        ({"caption": ["a" * 10_001]}, {"output": "text_embedding"}, "'caption' has 10,001 letters"),
        ({"caption": ["\ud83d"]}, {"output": "text_embedding"}, "half of a surrogate pair"),
        ({"image": ["bm8gcGljdHVyZQ=="]}, {}, "the picture sent"),
        ({"image": ["x"]}, {"output": "asker"}, "the model has no output 'asker'; it has"),
        ({"image": ["{picture}"]}, {"settings": '{"beam": 2}'}, "has no setting 'beam'"),
        ({"image": ["{picture}"]}, {"settings": "{"}, "Expecting property name"),
        ({"image": ["{picture}"]}, {"settings": "[" * 9000}, "settings is no JSON"),
        ({"image": ["{picture}"]}, {"settings": '{"beams": 17}'}, "17 beams; a request may have 16"),
        ({"image": ["{picture}"]}, {"settings": '{"image": 1}'}, "generation has no setting 'image'"),
        ({"image": ["{picture}"]}, {"settings": '{"top_p": NaN}'}, "top_p is nan, not a number"),
        ({"image": ["{picture}"]}, {"seed": -1}, "seed is -1, not a whole number from 0"),
    ],
)
def test_mistakes_are_the_caller_s(finished: Finished, model: Any, given: Any, params: Any, says: str) -> None:
    from mlflow.exceptions import MlflowException

    held = {"picture": packed(finished.picture), "path": str(finished.picture)}
    given = {name: [value.format(**held) for value in values] for name, values in given.items()}
    with pytest.raises(MlflowException) as refused:
        model.predict(given, params=params)
    assert says in str(refused.value)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_fault_of_the_model_is_for_the_server_s_log_alone(
    finished: Finished, model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("in /home/somebody/model.py")

    monkeypatch.setattr("compose_vlp.run.Output.__call__", fail)
    with pytest.raises(MlflowException, match="the model failed on this request") as refused:
        model.predict({"image": [packed(finished.picture)]})
    assert (refused.value.error_code, "somebody" in refused.value.serialize_as_json()) == ("INTERNAL_ERROR", False)
    assert "in /home/somebody/model.py" in caplog.text


def test_it_is_weights_and_papers_without_a_pickle(finished: Finished) -> None:
    import mlflow

    mlflow.set_tracking_uri(finished.store)
    folder = Path(mlflow.artifacts.download_artifacts(finished.uri))
    files = {str(path.relative_to(folder / "data" / "model")) for path in (folder / "data" / "model").rglob("*.*")}
    assert "blueprint.yaml" in files
    assert any(name.endswith("model.safetensors") for name in files)
    assert not any("optimizer" in name or name.endswith((".pkl", ".pt", ".bin")) for name in files)
    assert "loader_module: compose_vlp.serving" in (folder / "MLmodel").read_text(encoding="utf-8")
    assert "torch==" in (folder / "requirements.txt").read_text(encoding="utf-8")


def test_mlflow_serves_it(finished: Finished, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", finished.uri, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    (tmp_path / "opened").mkdir()
    shutil.copy(finished.picture, tmp_path / "opened" / "red.png")
    environment = os.environ | {"MLFLOW_TRACKING_URI": finished.store, "COMPOSE_VLP_PICTURES": str(tmp_path / "opened")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"

    def ask(body: dict[str, Any]) -> tuple[int, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        until = time.monotonic() + 200
        while not _answers(f"{address}/ping"):
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.3)
        records = [{"image": packed(finished.picture)}, {"image": "red.png"}]
        assert ask({"dataframe_records": records}) == (200, {"predictions": [finished.caption] * 2})
        status, refusal = ask({"dataframe_records": [{"image": "bm8="}]})
        assert status == 400 and "the picture sent" in json.dumps(refusal)
        answers = [ask({"dataframe_records": [{"image": path}]}) for path in (str(finished.picture), "/no/such.png")]
        assert [status for status, _ in answers] == [400, 400]
        here, nowhere = (json.dumps(answer).replace(repr(path), "PATH") for path, (_, answer) in zip(
            (str(finished.picture), "/no/such.png"), answers, strict=True))  # fmt: skip
        assert "no picture in the folder that this server opens" in here
        assert here.partition("Error:")[2] == nowhere.partition("Error:")[2], "nobody learns which files there are"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_blueprint_may_keep_its_model_to_itself(
    small_coca: Callable[..., Blueprint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("tracking.model=false", "tracking.experiment=mine", "tracking.run_name=first")
    run = small_coca(*STEPS, *settings).train(out="run", options=TrainOptions(seed=1, device="cpu"))
    records = [json.loads(line) for line in (run.folder.path / "tracking" / "outbox.jsonl").read_text().splitlines()]
    assert "model" not in {record["kind"] for record in records}
    target = json.loads((run.folder.path / "tracking" / "target.json").read_text())
    assert (target["experiment"], target["run_name"]) == ("mine", "first")
    tags = {name: value for record in records if record["kind"] == "tags" for name, value in record["values"].items()}
    assert tags["data.pairs"].startswith("scenes ")

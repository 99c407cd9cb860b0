from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from compose_vlp.tracking import mlflow_store
from compose_vlp.tracking.delivery import Delivery, next_group
from compose_vlp.tracking.layout import Target, TrackFolder
from compose_vlp.tracking.mlflow_store import MlflowRun, RunGoneError, StoreProblemError, folder_of_run, open_client
from compose_vlp.tracking.outbox import Outbox
from compose_vlp.tracking.records import Artifact, Metrics, Model, Params, Record, StatusChange, Tags


class Bench:
    """A run with an outbox, and deliveries from it to an SQLite store without any process between."""

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.folder = TrackFolder(run_folder)
        self.folder.path.mkdir(parents=True)
        self.target = Target("key", 1_000, uri, "tiny/coca", "a run", 0)
        self.outbox = Outbox(self.folder.outbox)

    def add(self, *records: Record) -> None:
        for record in records:
            self.outbox.add(record)

    def deliver(self) -> Delivery:
        """What a sender does that has just been started."""
        delivery = Delivery(self.folder, self.target)
        self.go_on(delivery)
        return delivery

    @staticmethod
    def go_on(delivery: Delivery) -> None:
        while delivery.send_next():
            pass


@pytest.fixture
def bench(tmp_path: Path, store: str) -> Bench:
    return Bench(tmp_path / "run", store)


def metrics(step: int, value: float = 1.0, **more: float) -> Metrics:
    return Metrics(step, 1_700_000_000_000 + step, {"loss": value, **more})


def count_sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The metrics that are sent from now on, key and step."""
    sent: list[tuple[str, int]] = []
    send = MlflowRun.send_metrics

    def counted(self: MlflowRun, points: Sequence[tuple[str, float, int, int]], models: Mapping[str, str]) -> None:
        sent.extend((point[0], point[3]) for point in points)
        send(self, points, models)

    monkeypatch.setattr(MlflowRun, "send_metrics", counted)
    return sent


def test_everything_arrives(bench: Bench, look: Callable[[str], Any], tmp_path: Path) -> None:
    inside = bench.folder.run_folder / "reports" / "one.html"
    inside.parent.mkdir()
    inside.write_text("page")
    bench.add(
        StatusChange("RUNNING", 1_000),
        Params({"seed": "7", "components.vision.depth": "12", "long": "x" * 7000}),
        Tags({"x-paper": "CoCa", "long": "ü" * 9000}),
        metrics(0, 0.5, **{"train/acc@1 (%)": 2.0}),
        metrics(1, math.nan),
        metrics(2, math.inf),
        Artifact("blueprint/resolved.yaml", "reports/one.html"),
        Artifact("pages", "reports"),
        StatusChange("FINISHED", 9_000),
    )
    state = bench.deliver().state
    there = look(bench.target.uri)
    run = there.run(state.run_id)
    assert run.info.run_name == "a run"
    assert (run.info.start_time, run.info.end_time, run.info.status) == (1_000, 9_000, "FINISHED")
    assert there.client.get_experiment(run.info.experiment_id).name == "tiny/coca"
    assert run.data.params["components.vision.depth"] == "12"
    assert run.data.params["long"].endswith("x…")
    assert run.data.tags["x-paper"] == "CoCa"
    assert run.data.tags["compose_vlp.run_folder"] == str(bench.folder.run_folder.resolve())
    assert there.steps(state.run_id, "loss") == [0, 1, 2]
    assert math.isnan(there.values(state.run_id, "loss")[1])
    assert there.steps(state.run_id, "train/acc_1 ___") == [0]
    assert there.artifacts(state.run_id, "blueprint") == {"blueprint/resolved.yaml"}
    assert there.artifacts(state.run_id, "pages") == {"pages/one.html"}
    assert run.info.artifact_uri.startswith((tmp_path / "mlruns" / "tiny" / "coca").as_uri())


def test_a_replay_after_a_resume_is_not_sent_again(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add(*[metrics(step, step) for step in range(6)])
    first = bench.deliver().state
    sent = count_sent(monkeypatch)
    bench.add(StatusChange("RUNNING", 5_000), *[metrics(step, 100 + step) for step in range(3, 9)])
    state = bench.deliver().state
    assert state.run_id == first.run_id
    assert sent == [("loss", 6), ("loss", 7), ("loss", 8)]
    values = look(bench.target.uri).values(state.run_id, "loss")
    assert values == {step: step if step < 6 else 100 + step for step in range(9)}


def test_the_first_word_for_a_key_and_step_counts(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(metrics(1, 1.0), metrics(1, 2.0), metrics(0, 3.0))
    delivery = bench.deliver()
    bench.add(metrics(0, 4.0))
    bench.go_on(delivery)
    assert look(bench.target.uri).values(delivery.state.run_id, "loss") == {1: 1.0, 0: 3.0}


def test_a_lost_answer_does_not_send_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add(metrics(0))
    delivery = bench.deliver()
    sent = count_sent(monkeypatch)
    log_batch = MlflowClient.log_batch

    def lose(self: MlflowClient, *args: Any, **named: Any) -> None:
        log_batch(self, *args, **named)
        raise MlflowException("the answer was lost")

    bench.add(metrics(1), metrics(2))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", lose)
        with pytest.raises(MlflowException, match="lost"):
            delivery.send_next()
    bench.add(metrics(3))
    bench.go_on(delivery)
    assert sent == [("loss", 1), ("loss", 2), ("loss", 3)]


def test_a_sender_that_died_before_its_account_was_written_is_made_good(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add(*[metrics(step) for step in range(5)])
    before = bench.folder.state
    delivery = Delivery(bench.folder, bench.target)
    delivery.connect()
    kept = before.read_text()
    bench.go_on(delivery)
    before.write_text(kept)
    sent = count_sent(monkeypatch)
    bench.add(metrics(5))
    bench.deliver()
    assert sent == [("loss", 5)]


@pytest.mark.parametrize("content", [None, "", '{"sent": {"outbox.jsonl": 1000000}, "run_id": null}', '{"sent"'])
def test_an_account_that_a_power_cut_took_is_made_good(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    bench.add(*[metrics(step) for step in range(5)])
    run_id = bench.deliver().state.run_id
    if content is None:
        bench.folder.state.unlink()
    else:
        bench.folder.state.write_text(content)
    sent = count_sent(monkeypatch)
    bench.add(metrics(5))
    state = bench.deliver().state
    assert state.run_id == run_id, "found again by its key"
    assert sent == [("loss", 5)]
    assert look(bench.target.uri).steps(run_id, "loss") == [0, 1, 2, 3, 4, 5]


def test_what_changes_on_resume_becomes_a_tag(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(Params({"steps": "10", "seed": "7"}))
    bench.deliver()
    bench.add(Params({"steps": "20", "seed": "7", "fresh": "1"}), Params({f"p{n}": "x" for n in range(50)}))
    state = bench.deliver().state
    run = look(bench.target.uri).run(state.run_id)
    assert run.data.params["steps"] == "10"
    assert run.data.params["fresh"] == "1"
    assert "p49" in run.data.params
    assert {key: value for key, value in run.data.tags.items() if key.startswith("resumed.")} == {"resumed.steps": "20"}
    assert state.refused == 0


def test_more_metrics_than_a_request_takes_are_sent_in_several(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(Metrics(0, 1, {f"m{n}": n for n in range(2500)}), *[Metrics(1 + n, 1, {f"m{n}": n}) for n in range(1500)])
    group = next_group(bench.folder.outbox, 0)
    assert group is not None
    assert len(group.points) == 2500
    state = bench.deliver().state
    run = look(bench.target.uri).run(state.run_id)
    assert len(run.data.metrics) == 2500
    assert look(bench.target.uri).steps(state.run_id, "m1499") == [0, 1500]


def test_a_damaged_line_holds_nothing_up(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(metrics(0))
    bench.outbox.close()
    with bench.folder.outbox.open("ab") as file:
        file.write(b"\x00\x00 rubbish\n")
    bench.outbox = Outbox(bench.folder.outbox)
    bench.add(metrics(1))
    assert look(bench.target.uri).steps(bench.deliver().state.run_id, "loss") == [0, 1]


def test_a_metric_that_mlflow_refuses_is_put_aside_and_the_others_arrive(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch = MlflowClient.log_batch

    def picky(self: MlflowClient, run_id: str, metrics: Sequence[Any] = (), **named: Any) -> None:
        if any(metric.step == 13 for metric in metrics):
            raise MlflowException("13 is bad luck", error_code=1000)  # INVALID_PARAMETER_VALUE
        log_batch(self, run_id, metrics=metrics, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", picky)
    bench.add(*[metrics(step) for step in range(40)])
    state = bench.deliver().state
    assert state.refused == 1
    assert look(bench.target.uri).steps(state.run_id, "loss") == [step for step in range(40) if step != 13]
    refused = bench.folder.refused.read_text()
    assert '"step": 13' in refused
    assert "bad luck" in refused


def test_a_file_that_is_gone_when_it_should_be_sent_is_put_aside(bench: Bench) -> None:
    bench.add(Artifact("gone.txt", "gone.txt"), metrics(0))
    state = bench.deliver().state
    assert state.refused == 1
    assert "is not there any more" in bench.folder.refused.read_text()


def test_files_that_cannot_be_sent_do_not_keep_metrics(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        """As a plugin for artifacts would raise."""

    def fail(*args: Any, **named: Any) -> None:
        raise NoCredentialsError("unable to locate credentials\nmore")

    (bench.folder.run_folder / "file.txt").write_text("x")
    bench.add(Artifact("file.txt", "file.txt"), metrics(0), StatusChange("FINISHED", 2))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", fail)
        delivery = bench.deliver()
        delivery.retry_artifacts()
    assert delivery.state.deferred == {"file.txt": "file.txt"}
    assert delivery.state.artifact_problem == "NoCredentialsError: unable to locate credentials"
    assert look(bench.target.uri).steps(delivery.state.run_id, "loss") == [0]
    again = Delivery(bench.folder, bench.target)
    again.retry_artifacts()
    assert (again.state.deferred, again.state.artifact_problem) == ({}, None)
    assert look(bench.target.uri).artifacts(again.state.run_id) == {"file.txt"}


def weights(bench: Bench, **files: str) -> Model:
    """A model of one file and one folder, and of whatever else is named."""
    (bench.folder.run_folder / "weights.bin").write_bytes(b"1234")
    (bench.folder.run_folder / "words").mkdir()
    (bench.folder.run_folder / "words" / "all.txt").write_text("a")
    kept = {"weights.bin": "weights.bin", "words": "words", **files}
    kinds: dict[str, str] = {"image": "string"}
    example = {"image": "AAAA"}
    return Model("model", kept, "some.module", kinds, "caption", "string", example, 900, ("some-package==1",))


def test_a_model_arrives_in_mlflow_s_format_and_leaves_no_copy(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(weights(bench), metrics(0))
    state = bench.deliver().state
    there = look(bench.target.uri)
    assert "MLmodel" in there.model_files(state.run_id)
    assert there.model_files(state.run_id, "data/model") == {"data/model/weights.bin", "data/model/words"}
    assert there.steps(state.run_id, "loss") == [0]
    assert not list(bench.folder.models.iterdir())


def test_a_model_whose_files_are_gone_is_put_aside_and_told(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(weights(bench, more="gone.bin"), metrics(0), StatusChange("FINISHED", 2))
    state = bench.deliver().state
    assert state.refused == 1
    assert "cannot be written in MLflow's format" in bench.folder.refused.read_text()
    assert look(bench.target.uri).status(state.run_id) == "FINISHED"
    assert not list(bench.folder.models.iterdir())


def test_a_model_that_cannot_be_sent_waits_and_holds_nothing_up(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **named: Any) -> None:
        raise RuntimeError("no room in the bucket")

    bench.add(weights(bench), metrics(0))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", fail)
        delivery = bench.deliver()
    assert set(delivery.state.deferred) == {"model"}
    assert [model.status for model in look(bench.target.uri).models(delivery.state.run_id)] == ["PENDING"]
    assert look(bench.target.uri).steps(delivery.state.run_id, "loss") == [0]
    (bench.folder.run_folder / "weights.bin").unlink()  # what waits is a copy
    again = Delivery(bench.folder, bench.target)
    again.retry_artifacts()
    assert again.state.deferred == {}
    assert "MLmodel" in look(bench.target.uri).model_files(again.state.run_id)
    assert [model.status for model in look(bench.target.uri).models(again.state.run_id)] == ["READY"]
    assert not list(bench.folder.models.iterdir())


def test_a_model_is_a_row_of_its_own_with_what_was_measured_of_its_weights(
    bench: Bench, look: Callable[[str], Any]
) -> None:
    own = Metrics(900, 1, {"retrieval/pairs/mean_recall": 0.5})
    bench.add(Params({"stages.pretrain.batch": "48"}), Tags({"hybrid": "true", "x-cell": "teacher=on", "other": "1"}))
    bench.add(metrics(0), weights(bench), own, Metrics(800, 1, {"retrieval/pairs/mean_recall": 0.4}))
    state = bench.deliver().state
    there = look(bench.target.uri)
    (model,) = there.models(state.run_id)
    assert (model.status, model.model_type, model.name) == ("READY", "vision-language model", "model")
    assert (model.params, model.tags["hybrid"], model.tags["x-cell"]) == (
        {"stages.pretrain.batch": "48"},
        "true",
        "teacher=on",
    )
    assert "other" not in model.tags
    assert [(metric.key, metric.value, metric.step) for metric in model.metrics] == [
        ("retrieval/pairs/mean_recall", 0.5, 900)
    ]
    assert [(output.model_id, output.step) for output in there.run(state.run_id).outputs.model_outputs] == [
        (model.model_id, 900)
    ]


def test_a_model_in_mlflow_has_its_signature_and_an_example(bench: Bench, look: Callable[[str], Any]) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model as MlflowModel

    bench.add(weights(bench))
    (model,) = look(bench.target.uri).models(bench.deliver().state.run_id)
    folder = download_artifacts(artifact_uri=model.artifact_location)
    written = MlflowModel.load(folder)
    assert (written.model_id, written.run_id) == (model.model_id, model.source_run_id)
    assert written.signature is not None
    assert written.signature.inputs.input_names() == ["image"]
    assert [str(column.type) for column in written.signature.outputs] == ["DataType.string"]
    assert {param.name for param in written.signature.params} == {"output", "settings", "seed"}
    example = written.load_input_example(folder)
    assert example is not None
    assert example.to_dict("records") == [{"image": "AAAA"}]


def test_a_model_that_is_sent_again_is_no_second_one(bench: Bench, look: Callable[[str], Any]) -> None:
    record = weights(bench)
    bench.add(record)
    run_id = bench.deliver().state.run_id
    bench.folder.state.unlink()  # as a power cut leaves it
    bench.deliver()
    there = look(bench.target.uri)
    assert len(there.models(run_id)) == len(there.run(run_id).outputs.model_outputs) == 1
    bench.add(replace(record, step=1000))  # training that went on
    bench.deliver()
    assert sorted(model.tags["step"] for model in there.models(run_id)) == ["1000", "900"]


def test_a_run_that_was_deleted_in_mlflow_is_said_and_goes_on_when_restored(
    bench: Bench, look: Callable[[str], Any]
) -> None:
    bench.add(metrics(0))
    delivery = bench.deliver()
    client = look(bench.target.uri).client
    client.delete_run(delivery.state.run_id)
    bench.add(metrics(1))
    with pytest.raises(RunGoneError, match="mlflow runs restore"):
        delivery.send_next()
    with pytest.raises(RunGoneError, match="mlflow runs restore"):
        bench.deliver()
    client.restore_run(delivery.state.run_id)
    assert look(bench.target.uri).steps(bench.deliver().state.run_id, "loss") == [0, 1]


def test_an_experiment_that_was_deleted_in_mlflow_is_said(bench: Bench, look: Callable[[str], Any]) -> None:
    client = look(bench.target.uri).client
    client.delete_experiment(client.create_experiment("tiny/coca"))
    bench.add(metrics(0))
    with pytest.raises(StoreProblemError, match="mlflow experiments restore"):
        bench.deliver()


def test_an_experiment_that_another_run_makes_meanwhile_is_used(
    bench: Bench, look: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = look(bench.target.uri).client.create_experiment("tiny/coca")
    actual = MlflowClient.get_experiment_by_name
    too_early = iter([True])
    monkeypatch.setattr(
        MlflowClient,
        "get_experiment_by_name",
        lambda self, name: None if next(too_early, False) else actual(self, name),
    )
    bench.add(metrics(0))
    assert bench.deliver().state.experiment_id == made


def test_a_store_whose_driver_is_missing_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(uri: str) -> None:
        raise ModuleNotFoundError("No module named 'psycopg2'")

    monkeypatch.setattr(mlflow_store, "MlflowClient", missing)
    bench.add(metrics(0))
    with pytest.raises(StoreProblemError, match="needs a package that is not installed: No module named 'psycopg2'"):
        bench.deliver()


def test_a_folder_that_cannot_hold_the_store_is_said_at_once(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(StoreProblemError, match="cannot write in"):
        mlflow_store.open_client(f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}")


def test_a_store_in_whose_making_somebody_was_killed_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", killed)  # tables are there, as far as migrations came
        with pytest.raises(KeyboardInterrupt):
            open_client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not (tmp_path / "mlflow.db").exists()
    assert open_client(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments()
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_the_folder_of_a_run_is_remembered(bench: Bench, look: Callable[[str], Any]) -> None:
    bench.add(metrics(0))
    run_id = bench.deliver().state.run_id
    assert run_id is not None
    assert folder_of_run(bench.target.uri, run_id) == bench.folder.run_folder.resolve()
    assert folder_of_run(bench.target.uri, "0" * 32) is None
    foreign = look(bench.target.uri).client.create_run("0").info.run_id
    assert folder_of_run(bench.target.uri, foreign) is None

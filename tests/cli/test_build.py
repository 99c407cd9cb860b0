"""build: report, files, programs, and a real step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose_vlp.runtime.state.run_folder import RunFolder
from tests.cli.support import Cli


def test_build_prints_parameters_shapes_work_and_passes(cli: Cli) -> None:
    result = cli("build tiny/coca --no-track")
    assert result.code == 0
    for words in ("Parameters  ", "Sequence     B × 16 × 128", "GFLOP", "prune", "The graph: runs/coca_tiny-"):
        assert words in result.out


def test_build_gives_a_script_numbers_and_files(cli: Cli, tmp_path: Path) -> None:
    output = json.loads(cli("build tiny/coca --no-track --json --out here --batch 4").out)
    by_component = output["parameters"]["by_component"]
    assert output["parameters"]["total"] == sum(by_component.values())
    # the joint pooler is there for tasks: no loss of pretraining reads it
    assert output["parameters"]["untrained"] == ["pool_joint"]
    assert output["parameters"]["trainable"] == output["parameters"]["total"] - by_component["pool_joint"]
    assert output["flops"]["batch"] == 4
    assert output["values"]["visual"] == {"kind": "Sequence", "shape": ["main", 16, 128]}
    assert [applied["name"] for applied in output["passes"]] == [
        "prune",
        "dedupe",
        "rows",
        "chunks",
        "last_layer",
        "frozen",
        "batch",
        "gather",
    ]
    assert {Path(file).name for file in output["files"].values()} == {
        "blueprint.yaml",
        "plan.json",
        "graph.svg",
        "graph.html",
        "pretrain.py",
        "outputs.py",
        "outputs.caption.py",
    }
    assert all((tmp_path / file).is_file() for file in output["files"].values())
    assert RunFolder.open(tmp_path / "here").info.status == "FINISHED"


def test_build_of_a_paper_stands_beside_its_figures(cli: Cli) -> None:
    figures = json.loads(cli("build coca_base --no-track --json").out)["figures"]
    assert {figure["label"]: figure["agrees"] for figure in figures} == dict.fromkeys(
        ("image_encoder", "text_decoder", "both"), True
    )


def test_resolved_blueprint_of_a_build_is_the_same_blueprint(cli: Cli) -> None:
    cli("build tiny/coca --no-track --out here")
    assert cli("diff tiny/coca here/blueprint.yaml").out == "coca_tiny and coca_tiny mean the same\n"


def test_code_is_the_program_that_runs(cli: Cli) -> None:
    output = cli("build tiny/coca --no-track --code").out
    assert "# pretrain\ndef pretrain(root, batch, step):" in output
    assert "    visual = m.pool_many(visual_vision)" in output
    compile(output, "printed", "exec")


def test_pass_left_out_leaves_the_plan_as_it_was(cli: Cli) -> None:
    output = json.loads(cli("build tiny/coca --no-track --json --without prune --without rows").out)
    names = [applied["name"] for applied in output["passes"]]
    assert names == ["dedupe", "chunks", "last_layer", "frozen", "batch", "gather"]


def test_unknown_pass_and_stage_offer_the_nearest(cli: Cli) -> None:
    result = cli("build tiny/coca --no-track --without prun")
    assert result.code == 2
    assert "did you mean 'prune'?" in result.err
    result = cli("build tiny/coca --no-track --stage pretrian")
    assert result.code == 2
    assert "did you mean 'pretrain'?" in result.err


def test_materialise_runs_a_real_step(cli: Cli) -> None:
    result = cli("build tiny/coca --no-track --materialise --device cpu")
    assert "Materialised in float32" in result.out
    assert "captioning 6." in result.out
    output = json.loads(cli("build tiny/coca --no-track --materialise --json").out)
    assert output["materialised"]["gradient_norm"] > 0


def test_blueprint_without_stages_is_built_without_a_step(cli: Cli) -> None:
    result = cli("build tiny/coca --no-track ~stages.pretrain")
    assert result.code == 0
    assert "none trained" in result.out and "the blueprint has no stages" in result.out
    tried = cli("build tiny/coca --no-track --materialise ~stages.pretrain")
    assert tried.code == 2 and "there is no step to try" in tried.err


def test_folder_in_use_is_refused(cli: Cli) -> None:
    assert cli("build tiny/coca --no-track --out here").code == 0
    result = cli("build tiny/coca --no-track --out here")
    assert result.code == 2
    assert "here" in result.err


@pytest.mark.slow
def test_build_is_logged_to_mlflow(cli: Cli, tmp_path: Path) -> None:
    assert cli("build tiny/coca --out here").code == 0
    assert cli("track sync here").code == 0  # on a machine that is busy, a build ends before all has arrived
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("coca_tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["kind"] == "build"
    assert run.data.metrics["build.parameters"] > 1e6
    assert {"blueprint.yaml", "plan.json", "graph.svg", "graph.html", "programs"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }


@pytest.mark.parametrize("what", ["tiny/albef", "tiny/blip", "tiny/albef tasks/vqa_generate"])
def test_build_needs_no_tokenizer_that_has_learnt(cli: Cli, what: str) -> None:
    """Masks, `begin` and answers of a question are measured, and tried with real weights, before any word is known."""
    result = cli(f"build {what} --no-track --materialise")
    assert result.code == 0, result.err
    assert "norm of the gradient" in result.out


def test_explain_shows_what_each_pass_changed_and_gives_a_script_all_numbers(cli: Cli) -> None:
    output = cli("build tiny/coca --no-track --explain").out
    assert "What each pass changed" in output and "last_layer" in output
    notes = json.loads(cli("build tiny/coca --no-track --explain --json").out)
    last = notes["explained"][-1]["after"]
    assert last["flops"] == notes["flops"]["step"] and last["kept_bytes"] == notes["flops"]["saved_bytes"]
    assert notes["explained"][0]["before"]["flops"] == notes["flops"]["step_without_passes"]


def test_what_is_kept_is_counted_in_the_precision_of_the_stage_which_is_said(cli: Cli) -> None:
    output = cli("build tiny/coca --no-track --explain stages.pretrain.precision=bf16").out
    assert "(AdamW, float32, activations in bf16" in " ".join(output.split())
    assert "one after the other, as they run; activations in bf16" in output
    exact, half = (
        json.loads(cli(f"build tiny/coca --no-track --explain --json precision={precision}").out)
        for precision in ("fp32", "bf16")
    )
    assert (exact["precision"], half["precision"]) == ("fp32", "bf16")
    assert {effect["precision"] for effect in half["explained"]} == {"bf16"}
    assert half["flops"]["saved_bytes"] < 0.9 * exact["flops"]["saved_bytes"]
    assert half["explained"][-1]["after"]["kept_bytes"] == half["flops"]["saved_bytes"]
    assert half["memory"]["weights"] == exact["memory"]["weights"]


def test_time_without_explain_is_a_mistake(cli: Cli) -> None:
    result = cli("build tiny/coca --no-track --time")
    assert result.code == 2 and "--explain --time" in result.err


def test_a_device_that_nothing_reads_is_a_mistake(cli: Cli) -> None:
    result = cli("build tiny/coca --device h100")
    assert result.code == 2
    assert "--world 1 --device h100" in result.err

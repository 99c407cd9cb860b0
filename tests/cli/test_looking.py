"""check, show, diff, components, schema, doctor: what is printed, and what a script gets."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from compose_vlp.blueprint.reader import read_text
from compose_vlp.cli.commands import show
from compose_vlp.cli.console import SafeConsole
from tests.cli.support import Cli

# --- check ------------------------------------------------------------------------------------------------------


def test_check_of_a_sound_blueprint_says_so(cli: Cli) -> None:
    result = cli("check tiny/coca")
    assert result.code == 0
    assert result.out == "coca_tiny: no mistakes (11 components, 9 values, 21 calls)\n"


def test_check_prints_all_mistakes_with_carets_and_ends_with_two(cli: Cli) -> None:
    result = cli("check tiny/coca components.vision.dept=3 joint=joint(caption)")
    assert result.code == 2
    assert result.out == ""
    assert "component `vision` has no field `dept`\n   | components.vision.dept=3\n   | ^^^" in result.err
    assert "= did you mean 'depth'" in result.err
    assert "`joint` reads itself" in result.err
    assert "2 mistakes" in result.err


def test_check_of_a_file_points_into_it(cli: Cli, tmp_path: Path) -> None:
    text = "extends: tiny/coca\ngraph:\n  logits: lm_headd(joint)\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = cli("check mine.yaml")
    assert result.code == 2
    assert "mine.yaml:3:11: " in result.err
    assert "  3 |   logits: lm_headd(joint)\n    |           ^^^^^^^^\n" in result.err


def test_check_gives_a_script_its_mistakes(cli: Cli) -> None:
    result = cli("check tiny/coca --json components.vision.dept=3")
    assert result.code == 2
    assert result.err == ""
    output = json.loads(result.out)
    assert output["ok"] is False
    (problem,) = output["problems"]
    assert problem["at"] == {"file": "command line", "line": 2, "column": 1, "end_column": 23}
    assert problem["hints"][0].startswith("did you mean 'depth'")


def test_check_gives_a_script_its_approval(cli: Cli) -> None:
    assert json.loads(cli("check tiny/coca --json").out) == {
        "ok": True,
        "name": "coca_tiny",
        "problems": [],
        "notes": [],
    }


# --- show -------------------------------------------------------------------------------------------------------


def test_show_names_the_line_that_wrote_a_value_and_what_it_replaced(cli: Cli) -> None:
    (line,) = [x for x in cli("show tiny/coca inputs.image.size=32").out.split("\n") if x.startswith("    size:")]
    value, _, origin = line.partition("#")
    assert value.split() == ["size:", "32"]
    assert origin.strip().startswith("command line, replaces ")
    assert "tiny/coca.yaml:14" in origin


def test_show_reads_back_to_the_same_blueprint(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(cli("show tiny/coca").out, encoding="utf-8")
    assert cli("diff tiny/coca again.yaml").out == "coca_tiny and coca_tiny mean the same\n"


def test_show_on_a_terminal_puts_every_comment_within_its_width(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = {}
    for width in (60, 80, 200):
        stream = io.StringIO()
        terminal = SafeConsole(file=stream, force_terminal=True, no_color=True, width=width, markup=False)
        monkeypatch.setattr(show, "out", lambda terminal=terminal: terminal)
        assert cli("show coca inputs.image.size=576").code == 0
        notes[width] = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
        _, *lines = notes[width].splitlines()  # the first names all files
        assert all(len(line) <= width or "#" not in line for line in lines)
        assert "size: 576" in notes[width] and "command line, replaces coca.yaml" in notes[width]
        Path("again.yaml").write_text(notes[width], encoding="utf-8")
        assert cli("diff again.yaml coca inputs.image.size=576").out == cli("diff coca coca").out
    assert "\n    size: 576" + 67 * " " + "  # command line" in notes[200], "in a file's column, where there is room"


def test_show_full_adds_defaults_and_inferred_sizes(cli: Cli) -> None:
    output = cli("show tiny/coca --full").out
    lines = {line.split("#")[0].strip(): line.partition("# ")[2] for line in output.split("\n")}
    assert lines["qkv_bias: true"] == "default"
    assert lines["context_width: 128"] == "inferred"
    assert read_text(output, "full").problems == []


def test_show_gives_a_script_values_and_origins(cli: Cli) -> None:
    output = json.loads(cli("show tiny/coca --json").out)
    assert output["document"]["components"]["vision"]["width"] == 128
    assert output["origins"]["components.vision.width"].endswith("tiny/coca.yaml:19")


def test_show_of_a_mistake_is_a_mistake(cli: Cli) -> None:
    result = cli("show tiny/coca nonsense.path=1")
    assert result.code == 2
    assert result.out == ""


# --- diff -------------------------------------------------------------------------------------------------------


def test_diff_of_one_blueprint_says_what_its_changes_do(cli: Cli) -> None:
    output = cli("diff tiny/coca", "inputs.image.size=32").out
    assert output.startswith("~ inputs.image.size: 64 -> 32  (command line replaces ")
    assert output.count("\n") == 1


def test_diff_of_two_blueprints_gives_changes_to_a_script(cli: Cli) -> None:
    changes = {change["path"]: change for change in json.loads(cli("diff coca_base coca_large --json").out)}
    assert (changes["components.vision.depth"]["before"], changes["components.vision.depth"]["after"]) == ("12", "24")


def test_diff_merges_what_a_plus_joins(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "wider.yaml").write_text(
        "components:\n  text_proj: {out: 64}\n  image_proj: {out: 64}\n", encoding="utf-8"
    )
    output = cli("diff tiny/coca tiny/coca+wider.yaml").out
    assert [line.split()[1] for line in output.strip().split("\n")] == [
        "components.image_proj.out:",
        "components.text_proj.out:",
    ]


def test_diff_of_three_is_refused(cli: Cli) -> None:
    result = cli("diff coca coca_base coca_large")
    assert result.code == 2
    assert "3 blueprints; two can be compared" in result.err


# --- components -------------------------------------------------------------------------------------------------


def test_components_are_listed_by_category(cli: Cli) -> None:
    output = cli("components").out
    assert output.index("Components") < output.index("Losses") < output.index("Functions") < output.index("Tokenizers")
    assert "  vit " in output


def test_a_component_is_explained_with_ports_bounds_and_defaults(cli: Cli) -> None:
    output = cli("components vit").out
    assert "Image[rows size]" in output
    assert "gives Sequence[rows tokens width]" in output
    assert "patch | convolution" in output
    assert "0.0, ≥ 0, < 1" in output
    assert "inferred" in output


def test_a_pattern_lists_what_matches(cli: Cli) -> None:
    output = json.loads(cli("components '*_head' --json").out)
    assert [kind["name"] for kind in output] == ["linear_head", "lm_head", "mlm_head", "mlp_head"]


def test_an_unknown_kind_offers_the_nearest(cli: Cli) -> None:
    result = cli("components vitt")
    assert result.code == 2
    assert "no kind is called 'vitt'" in result.err
    assert "'vit'" in result.err


# --- schema and doctor ------------------------------------------------------------------------------------------


def test_schema_is_written_where_it_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    result = cli("schema --out schema.json")
    assert result.code == 0
    assert result.out == ""
    assert "# yaml-language-server: $schema=schema.json" in result.err
    written = json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(cli("schema").out)


def test_doctor_says_which_attention_runs_here_and_why(cli: Cli) -> None:
    result = cli("doctor --json")
    assert result.code == 0
    actual = {topic["topic"]: topic for topic in json.loads(result.out)}
    assert actual["attention on cpu, float32"]["found"] == "sdpa"
    assert actual["attention on cpu, float32"]["why"] == "xformers has no operator for cpu tensors"
    assert actual["torch"]["found"]


def test_doctor_names_the_store_that_the_environment_asks_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1" in cli("doctor").out


def test_doctor_fits_a_terminal_of_eighty_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    too_long = [line for line in cli("doctor").out.splitlines() if len(line) > 80]
    assert [line for line in too_long if not line.strip().startswith("/")] == []  # the folder of this test is one word


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("doctor --nope --json", "No such option: --nope"),
        ("show --json", "Missing argument"),
        ("nope --json", "No such command"),
        ("train tiny/coca --seed x --json", "Invalid value for '--seed'"),
    ],
)
def test_wrong_usage_is_json_for_a_script(cli: Cli, line: str, message: str) -> None:
    result = cli(line)
    document = json.loads(result.out)
    assert (result.code, document["ok"], result.err) == (2, False, "")
    assert message in document["problems"][0]["message"]


def test_doctor_fails_where_nothing_can_be_recorded(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    result = cli("doctor")
    assert result.code == 1
    assert "is not writable" in result.out

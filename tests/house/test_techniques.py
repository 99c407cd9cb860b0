"""A technique is one file of which no other knows, and one override for each paper; the tool measures it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import techniques
from tools.house import sources
from tools.techniques import PAPERS, TECHNIQUES, Technique

BUILT_IN = Technique("the FFN that towers name as their default", "mlp", "components.*.ffn=mlp")


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.kind)
def test_a_technique_is_one_file_of_which_no_other_knows(technique: Technique) -> None:
    assert technique.known_by(sources()) == []
    assert 15 < technique.lines() < 150


def test_a_file_that_knows_of_a_kind_is_found(tmp_path: Path) -> None:
    assert [Path(file).name for file in BUILT_IN.known_by(sources())] == ["moe.py", "transformer.py"]
    late, quiet = tmp_path / "late.py", tmp_path / "quiet.py"
    late.write_text("def late():\n    from compose_vlp.components.ffns.swiglu import SwiGLU\n")
    quiet.write_text('"""Nothing like swiglu."""\n')
    assert TECHNIQUES[0].known_by([late, quiet]) == [str(late)]


@pytest.mark.parametrize("paper", PAPERS)
def test_one_override_reaches_every_paper_at_full_size(paper: str) -> None:
    for technique in TECHNIQUES:
        assert technique.reaches(paper), f"{technique.title} does not reach {paper}"
    assert len(TECHNIQUES[0].reaches(paper)) == len(BUILT_IN.reaches(paper))


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(techniques, "PAPERS", {"CoCa": PAPERS["CoCa"]})
    techniques.main()
    table = capsys.readouterr().out
    for technique in TECHNIQUES:
        (line,) = [line for line in table.splitlines() if line.startswith(technique.title)]
        assert line.split()[-3] == str(technique.lines()) and line.split()[-2] == "0" and int(line.split()[-1]) > 0

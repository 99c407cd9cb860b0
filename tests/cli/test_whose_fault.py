# ruff: noqa: E501 (tables of mistakes)
"""Mistakes in a plugin are told with its own file and line, those of the machine as such, and only the rest as ours."""

from __future__ import annotations

import linecache
from pathlib import Path

import pytest

from compose_vlp import blame
from compose_vlp.cli import guard
from compose_vlp.cli.machine import is_of_another_process, machine_fault
from compose_vlp.errors import UserError
from compose_vlp.readable import count
from tests.cli.support import SHORT, Cli

ADAPTER = """from typing import Annotated
import torch
from torch import Tensor, nn
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Sequence

@component("my_adapter")
class MyAdapter(nn.Module):
    class Config(Settings):
        hidden: int = 64
        width: int = inferred()

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)

    def forward(self, x: Annotated[Sequence, "rows tokens width", EACH]) -> Annotated[Sequence, "rows tokens width"]:
        return x.with_features(x.features + self.up(self.down(x.features).relu()))
"""
USED = "'+components.adapter={use: my_adapter, hidden: 8}' 'visual=adapter(previous)'"
SOURCE = """from compose_vlp.data import Source
from compose_vlp.registry import Settings, source

@source("my_source")
class MySource(Source):
    class Config(Settings):
        pass

    def __len__(self) -> int:
        return 40

    def record(self, index: int) -> dict[str, object]:
        return {"caption": "a red square", "image": self.missing}
"""
TOKENIZER = """from compose_vlp.registry import Settings, tokenizer

@tokenizer("my_tokenizer")
class MyTokenizer:
    class Config(Settings):
        pass

    def __init__(self, config: Config) -> None:
        raise LookupError("no words")

    vocab_size = 300

    def encode(self, text, length=None, *, end=True):
        return [0]

    def decode(self, ids):
        return ""
"""


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.fixture(autouse=True)
def fresh_lines() -> None:
    linecache.clearcache()


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


BEFORE_INIT = "    def __init__(self, config: Config) -> None:\n"
RETURN = "        return x.with_features"
AT_DECLARATION = {
    "syntax": ("super().__init__()", "super().__init__(", "super().__init__(", "no Python: '(' was never closed"),
    "import": ("import torch\n", "import nonsense\n", "import nonsense", "No module named 'nonsense'"),
    "untyped setting": ("hidden: int = 64", "hidden = 64", "class Config", "A non-annotated attribute was detected"),
    "no Config": (
        ADAPTER[ADAPTER.index("    class Config") : ADAPTER.index(" -> None")],
        "    def __init__(self, config)",
        "class MyAdapter",
        "my_adapter: the class has no `Config` of its settings",
    ),
    "settings by name": ("self, config: Config", "self, *, hidden, width", "class MyAdapter", "called with Config, by place"),
    "more arguments": ("self, config: Config", "self, hidden, width", "class MyAdapter", "called with Config, by place"),
    "a Tensor is given": ('-> Annotated[Sequence, "rows tokens width"]', "-> Tensor", "def forward", "'return' is annotated"),
    "nothing is said to be given": (' -> Annotated[Sequence, "rows tokens width"]:', ":", "def forward", "does not say what"),
    "an untyped port": ('x: Annotated[Sequence, "rows tokens width", EACH]', "x", "def forward", "'x' of forward has no"),
    "an unknown type": ("x: Annotated[Sequence,", "x: Annotated[Sequense,", "def forward", "name 'Sequense' is not"),
    "no module": ("class MyAdapter(nn.Module)", "class MyAdapter", "class MyAdapter", "is a class of `torch.nn.Module`"),
    "no forward": ("def forward", "def forwards", "class MyAdapter", "there is no forward"),
    "a promise that is none": ('"my_adapter"', '"my_adapter", rows="indep"', "class MyAdapter", "no promise is rows='indep'"),
    "a built-in's name": ('"my_adapter"', '"vit"', "class MyAdapter", "'vit' is a kind that is built in"),
    "no name": ('"my_adapter"', '"my adapter"', "class MyAdapter", "'my adapter' is no name"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", AT_DECLARATION)
def test_mistakes_of_a_declaration_are_told_where_they_stand(cli: Cli, mistake: str) -> None:
    old, new, at, message = AT_DECLARATION[mistake]
    text = changed(ADAPTER, old, new)
    Path("adapter.py").write_text(text, encoding="utf-8")
    result = cli(f"check tiny/coca --plugin adapter.py {USED}")
    assert result.code == 2, result
    place = f"{Path('adapter.py').resolve()}:{line_of(text, at)}:"
    assert place in result.err and message in result.err.split("\n")[0], result.err
    assert at in result.err and "fault of compose-vlp" not in result.err


AT_CHECK = {
    "check": "config.oops",
    "flows": "1 / 0",
    "output": "undefined",
}


@pytest.mark.parametrize("hook", AT_CHECK)
def test_hooks_that_fail_are_told_by_check(cli: Cli, hook: str) -> None:
    arguments = "config, ports" if hook == "output" else "config"
    body = f"    @staticmethod\n    def {hook}({arguments}):\n        return {AT_CHECK[hook]}\n\n"
    text = changed(ADAPTER, BEFORE_INIT, body + BEFORE_INIT)
    Path("adapter.py").write_text(text, encoding="utf-8")
    result = cli(f"check tiny/coca --plugin adapter.py {USED}")
    assert result.code == 2
    assert f"adapter.py:{line_of(text, AT_CHECK[hook])}:" in result.err and f"in {hook}" in result.err
    assert "fault of compose-vlp" not in result.err


AT_RUN = {
    "forward": (RETURN, "        raise KeyError('boom')\n" + RETURN, "raise KeyError", "KeyError: 'boom'"),
    "a library called wrongly": (RETURN, "        torch.zeros(3) @ torch.zeros(4)\n" + RETURN, "torch.zeros(3)", "RuntimeError"),
    "a value asked wrongly": ("x.features + self", "x.wrong + self", "x.wrong", "has no attribute 'wrong'"),
    "__init__": (BEFORE_INIT, BEFORE_INIT + "        config.nothing\n", "config.nothing", "has no attribute 'nothing'"),
    "no super": ("        super().__init__()\n", "", "self.down, self.up =", "cannot assign module before"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", AT_RUN)
def test_what_fails_while_it_runs_is_told_with_its_line_and_call(cli: Cli, mistake: str) -> None:
    old, new, at, message = AT_RUN[mistake]
    text = changed(ADAPTER, old, new)
    Path("adapter.py").write_text(text, encoding="utf-8")
    result = cli(f"build tiny/coca --no-track --plugin adapter.py {USED}")
    assert result.code == 2, result
    assert f"adapter.py:{line_of(text, at)}:" in result.err and message in result.err
    assert "fault of compose-vlp" not in result.err


def test_the_call_is_named(cli: Cli) -> None:
    Path("adapter.py").write_text(changed(ADAPTER, RETURN, "        raise KeyError\n" + RETURN), encoding="utf-8")
    result = cli(f"train tiny/coca --no-track --plugin adapter.py {USED}", *SHORT)
    assert result.code == 2 and "KeyError" in result.err and "adapter" in result.err
    assert "fault of compose-vlp" not in result.err


def test_an_operation_that_needs_numbers_trains_and_only_build_says_that_it_cannot(cli: Cli) -> None:
    text = changed(ADAPTER, RETURN, "        float(x.features.sum())\n" + RETURN)
    Path("adapter.py").write_text(text, encoding="utf-8")
    result = cli(f"build tiny/coca --no-track --plugin adapter.py {USED}")
    if result.code:
        assert result.code == 2 and "training and evaluation need none" in result.err, result.err
        assert f"adapter.py:{line_of(text, 'float(')}:" in result.err
    assert cli(f"train tiny/coca --no-track --plugin adapter.py {USED}", *SHORT).code == 0


def test_a_class_that_reads_numbers_when_it_is_made_is_told_that_it_is_made_without_any(cli: Cli) -> None:
    made = "        self.scale = float(torch.ones(3).sum())\n"
    text = changed(ADAPTER, "        self.down, self.up", made + "        self.down, self.up")
    Path("adapter.py").write_text(text, encoding="utf-8")
    result = cli(f"train tiny/coca --no-track --plugin adapter.py {USED}", *SHORT)
    assert result.code == 2 and f"adapter.py:{line_of(text, 'self.scale')}:" in result.err, result.err
    assert "`__init__` runs on torch's meta device too" in result.err and "need none" not in result.err


def test_what_a_class_refuses_when_it_is_made_is_told_at_its_place(cli: Cli) -> None:
    refusal = (
        "        from compose_vlp.errors import UserError\n        raise UserError('a hidden width of 8 is odd')\n"
    )
    Path("adapter.py").write_text(changed(ADAPTER, BEFORE_INIT, BEFORE_INIT + refusal), encoding="utf-8")
    own = "extends: tiny/coca\ncomponents:\n  adapter: {use: my_adapter}\ngraph: {visual: adapter(previous)}\n"
    Path("own.yaml").write_text(own, encoding="utf-8")
    result = cli("build own.yaml --no-track --plugin adapter.py")
    assert result.code == 2 and "own.yaml:3:3: a hidden width of 8 is odd" in result.err, result.err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_fails_is_told_with_its_line_and_the_record(cli: Cli, workers: int) -> None:
    Path("mine.py").write_text(SOURCE, encoding="utf-8")
    line = "train tiny/coca --no-track --plugin mine.py 'data.pairs={use: my_source}'"
    short = [override for override in SHORT if not override.startswith("data.")]
    result = cli(f"{line} --workers {workers}", *short)
    assert result.code == 2, result
    assert f"mine.py:{line_of(SOURCE, 'self.missing')}:" in result.err and "AttributeError" in result.err
    assert "fault of compose-vlp" not in result.err


def test_a_tokenizer_that_fails_is_told_with_its_line(cli: Cli) -> None:
    Path("mine.py").write_text(TOKENIZER, encoding="utf-8")
    result = cli(
        "train tiny/coca --no-track --plugin mine.py 'components.bpe={use: my_tokenizer}' components.lm_head.vocab_size=300",
        *SHORT,
    )
    assert result.code == 2, result
    assert f"mine.py:{line_of(TOKENIZER, 'raise LookupError')}:" in result.err and "no words" in result.err


@pytest.mark.parametrize(
    ("text", "message"), [("raise SystemExit(3)", "was ended (code 3)"), ("x = '\0'", "null bytes")]
)
def test_files_that_are_no_plugins_are_told(cli: Cli, text: str, message: str) -> None:
    Path("mine.py").write_text(text, encoding="utf-8")
    result = cli("check tiny/coca --plugin mine.py")
    assert result.code == 2 and message in result.err and "mine.py" in result.err


def test_a_name_stands_once_in_a_file(cli: Cli) -> None:
    again = ADAPTER[ADAPTER.index("@component") :].replace("class MyAdapter", "class Other")
    Path("mine.py").write_text(ADAPTER + again, encoding="utf-8")
    result = cli("check tiny/coca --plugin mine.py")
    assert result.code == 2 and "two kinds are called 'my_adapter'" in result.err


# --- the machine, other processes, and ourselves ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), r"\(pid 12\) was killed \(signal Killed\)"),
        (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), r"\(pid 12, 13\) ended without a word"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. It is possible ..."), "no shared memory left in /dev/shm"),
        (MemoryError(), "the machine has too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "too little memory"),
        (OSError(28, "No space left on device"), "no room left on the disk"),
    ],
)  # fmt: skip
def test_what_the_machine_lacked_is_told(error: Exception, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    notes = machine_fault(error)
    assert notes is not None
    with pytest.raises(UserError, match=message):
        raise notes
    with guard.guarded() as outcome:
        raise error
    assert outcome.code == 1 and "fault of compose-vlp" not in capsys.readouterr().err


def test_a_killed_reader_is_known_behind_other_errors() -> None:
    error = ValueError("something else")
    error.__context__ = RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    notes = machine_fault(error)
    assert notes is not None and "--workers" in str(notes.problems[0].hints)


def test_the_end_of_another_process_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")
    assert not is_of_another_process(lost)  # alone there is no other
    monkeypatch.setenv("WORLD_SIZE", "2")
    with guard.guarded() as outcome:
        raise lost
    printed = capsys.readouterr().err
    assert outcome.code == 1 and "another process" in printed and "fault of compose-vlp" not in printed
    assert not is_of_another_process(RuntimeError("shape mismatch"))
    assert not is_of_another_process(ValueError("connection closed by peer"))


def test_what_is_nobody_else_s_is_our_fault_with_what_was_being_done(capsys: pytest.CaptureFixture[str]) -> None:
    with guard.guarded() as outcome, blame.noted("while reading record 7"):
        count("seven")  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert outcome.code == 1 and "while reading record 7" in printed and "This is a fault of compose-vlp" in printed

"""Candidates that make steps in turns, each in a process of its own, as a user's training has one.

The parent starts the benchmark's own command once for each candidate, with `--turns NAME`; the child makes that
candidate and then a step for each line that it reads, of which it prints the seconds. Ours, and an opponent that is
given what is not the authors' (its name ends with a plus), keep the memory that a step frees, as `train` does.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from platform import libc_ver

from compose_vlp.allocator import keep_memory

OURS = "ours"
READY = "ready"
Times = dict[str, list[float]]


def add_turns(parser: argparse.ArgumentParser) -> None:
    """Add the option by which a child learns which candidate it is."""
    parser.add_argument("--turns", help=argparse.SUPPRESS)


def take_turns(name: str, make: Callable[[], Callable[[int], object]]) -> None:
    """Be a candidate: make it, and a step of the number that each line of standard input has."""
    if name == OURS or name.endswith("+"):
        keep_memory()
    step = make()
    print(READY, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        step(int(line))
        print(time.perf_counter() - began, flush=True)


def pairs_of_times(names: Sequence[str], rounds: int) -> dict[str, Times]:
    """Seconds of each step, of our candidate and of each other one beside it; the first round warms up.

    Two processes at a time, so that two candidates have to fit into memory, and not all.
    """
    gc.collect()  # models refer to themselves
    if libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what was compared is freed, and goes back to the machine only when asked
    ours, *others = names
    return {other: _in_turns([ours, other], rounds) for other in others}


def _in_turns(names: Sequence[str], rounds: int) -> Times:
    times: Times = {name: [] for name in names}
    with ExitStack() as stack:
        children = {name: stack.enter_context(_child(name)) for name in names}
        for number in range(rounds + 1):
            for name, ask in children.items():
                seconds = ask(number)
                if number:
                    times[name].append(seconds)
    return times


@contextmanager
def _child(name: str) -> Iterator[Callable[[int], float]]:
    """Start a candidate; gives what makes its step of a number, and gives the seconds."""
    command = [sys.executable, "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:], "--turns", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asks, answers = process.stdin, process.stdout
        while (line := answers.readline()).strip() != READY:
            if not line:
                raise SystemExit(f"{name} ended before its first step: {' '.join(command)}")

        def ask(number: int) -> float:
            print(number, file=asks, flush=True)
            answer = answers.readline()
            if not answer:
                raise SystemExit(f"{name} ended in its step {number + 1}; too little memory for two at a time?")
            return float(answer)

        yield ask
        asks.close()

"""Commands and programs of pages, each in a process of its own that is forked from one with the libraries imported.

Importing torch, transformers and MLflow takes most of a short command's time. `python -m tests.docs.warm FOLDER`
imports them, and of the project only how a process ends, then answers the programs `compose-vlp` and `python` that it
leaves in that folder: whoever starts one of them gets a fork that has their arguments, working folder, environment
and files. It ends with its standard input.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

from compose_vlp.ending import end_with
from tools.warm_up import MODULES

PROGRAMS = ("compose-vlp", "python")
PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    start = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    sent = socket.send_fds(line, [start], [0, 1, 2])
    line.sendall(start[sent:])
    line.shutdown(socket.SHUT_WR)
    sys.exit(int(line.recv(8)))
"""


@contextmanager
def warm_programs(folder: Path) -> Iterator[None]:
    """The programs stand in `folder` and work while this is entered."""
    command = [sys.executable, "-m", "tests.docs.warm", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield
        server.stdin.close()


def serve(folder: Path) -> None:
    """Answer until standard input ends. A fork comes back from here too, through the end of its own program."""
    for name in MODULES:
        importlib.import_module(name)
    address = str(folder / "line")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        for name in PROGRAMS:
            (folder / name).write_text(PROGRAM.format(python=sys.executable, address=address, name=name))
            (folder / name).chmod(0o755)
        gc.collect()
        gc.freeze()  # or each fork, as it ends, looks through all that was imported, and so copies it: three seconds
        waiting = 0
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            line, _ = listening.accept()
            while waiting and os.waitpid(-1, os.WNOHANG)[0]:
                waiting -= 1
            waiting += 1
            if os.fork():
                line.close()
                continue
            child = os.fork()  # and its parent waits in the place of the server: a program may start another
            if child == 0:
                listening.close()
                become(line)
                return
            _, status = os.waitpid(child, 0)
            line.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())
            os._exit(0)


def become(line: socket.socket) -> None:
    """Be the process that was asked for."""
    start, files, _, _ = socket.recv_fds(line, 1 << 16, 3)
    start += b"".join(iter(lambda: line.recv(1 << 16), b""))
    line.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    name, arguments, folder, environment = json.loads(start)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [name, *arguments]
    if name == "python":
        assert arguments == ["-"], "a page's program comes by standard input"
        sys.modules["__main__"] = ModuleType("__main__")  # where annotations and pickles look for the page's classes
        end_with(partial(run, sys.stdin.read()))
    else:
        from compose_vlp.cli import main

        main()


def run(program: str) -> int:
    """Run a page's program as the main module's."""
    exec(compile(program, "<stdin>", "exec"), vars(sys.modules["__main__"]))
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))

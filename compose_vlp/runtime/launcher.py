"""What is left for `torchrun` to tell, without the import of torch."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from compose_vlp.readable import visible


def tell_launcher(words: str) -> None:
    """Leave word of a mistake for `torchrun`, which ends its own account of the processes with it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file is not None:
        shown = visible(words)  # `torchrun` shows what stands where a traceback would
        report = {"message": shown, "extraInfo": {"py_callstack": shown, "timestamp": str(int(time.time()))}}
        with suppress(OSError):
            Path(file).write_text(json.dumps({"message": report}), encoding="utf-8")

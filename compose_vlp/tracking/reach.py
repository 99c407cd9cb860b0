"""Can the tracking store be reached? Asked without importing MLflow, and answered within seconds."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from compose_vlp.tracking.layout import sqlite_path
from compose_vlp.tracking.reason import reason

PORTS = {"http": 80, "https": 443}


def why_unreachable(uri: str, timeout_s: float = 2.0) -> str | None:
    """Why nothing can be written to a tracking store, None where it can (or where that shows at the first run only)."""
    file = sqlite_path(uri)
    if file is not None:
        return _why_not_sqlite(file)
    parts = urlsplit(uri)
    if parts.scheme in PORTS:
        return _why_no_server(parts.hostname or "", parts.port or PORTS[parts.scheme], timeout_s)
    return None


def _why_not_sqlite(file: Path) -> str | None:
    if not file.exists():
        folder = next(parent for parent in file.parents if parent.exists())
        return None if os.access(folder, os.W_OK) else f"{folder} is not writable"
    if not os.access(file, os.W_OK):
        return f"{file} is not writable"
    try:
        with sqlite3.connect(file, timeout=1) as store:
            store.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        return f"{file}: {error}"
    finally:
        store.close()
    return None


def _why_no_server(host: str, port: int, timeout_s: float) -> str | None:
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        return f"{host}:{port}: {reason(error)}"
    return None

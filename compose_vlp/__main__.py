"""`python -m compose_vlp` is `compose-vlp`."""

from __future__ import annotations

from compose_vlp.cli import main

if __name__ == "__main__":
    main()

"""`python -m tests.chaos NAME [options]`: break something on purpose; its last line is one JSON object."""

from __future__ import annotations

import sys

from tests.named_programs import run

if __name__ == "__main__":
    sys.exit(run("chaos", sys.argv[1:]))

"""`python -m tests.benchmarks NAME [options]`: run one benchmark; its last line is one JSON object."""

from __future__ import annotations

import sys

from tests.named_programs import run

if __name__ == "__main__":
    sys.exit(run("benchmarks", sys.argv[1:]))

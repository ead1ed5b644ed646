"""`python -m tests.benchmarks [NAME [options]]`: run one benchmark, whose last line is one JSON object, or all of them."""

from __future__ import annotations

import sys

from tests.benchmarks import _all
from tests.named_programs import run

if __name__ == "__main__":
    sys.exit(run("benchmarks", sys.argv[1:]) if len(sys.argv) > 1 else _all.main())

"""`python -m tests.benchmarks NAME [options]`: run one benchmark; its last line is one JSON object."""

from __future__ import annotations

import importlib
import sys

# Programs that measure; the other modules here are their parts.
NAMES = ("core", "drift", "market")


def main() -> None:
    """Hand the remaining arguments to the benchmark's own `main`; what it returns is the exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NAMES:
        sys.exit(f"benchmark {name!r}: must be one of {', '.join(NAMES)}")
    sys.exit(importlib.import_module(f"tests.benchmarks.{name}").main(sys.argv[2:]))


if __name__ == "__main__":
    main()

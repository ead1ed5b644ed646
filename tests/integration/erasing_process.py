"""Begins an erasure and dies: `python erasing_process.py HOME CUSTOMER_ID STEP`.

STEP is `rows`, or the name of a step of `Eraser.resume` after which nothing more is done.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from features.history.engine import connect
from features.workspace import FeatureWorkspace
from serving.erasure import Eraser


def main(home: Path, customer_id: str, step: str) -> None:
    engine = connect(f"sqlite:///{home / 'history.db'}")
    eraser = Eraser(engine, FeatureWorkspace(home, engine), lambda: datetime.now(UTC))
    eraser.begin(customer_id)

    def die(done: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    die("rows")
    eraser.resume(after=die)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

"""`nextchannel answers`: load, show and try; errors are one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NEXTCHANNEL = Path(sys.executable).parent / "nextchannel"
TREE = {
    "groups": [{"keywords": ["Hours"], "content": {"body": "Nine to six."}}],
    "office": {"time_zone": "Asia/Taipei", "hours": {"mon": [{"opens": "09:00", "closes": "18:00"}]}},
}


@pytest.fixture
def answers(tmp_path):
    """Runs a command in an installation of its own; exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [NEXTCHANNEL, "answers", *words],
            cwd=tmp_path,
            env=os.environ | {"NEXTCHANNEL_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_answers_are_loaded_shown_and_tried(answers, tmp_path):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(TREE))
    assert answers("load", "line", str(file)) == (0, "answers of line: version 1\n", "")
    code, shown, _ = answers("show", "line")
    file.write_text(shown)
    assert answers("load", "line", str(file)) == (0, "answers of line: version 1\n", "")
    assert code == 0
    assert answers("try", "line", " HOURS! ")[1] == "keyword, version 1\ngroup: Hours\n\nNine to six.\n"
    closed = answers("try", "line", "help", "--at", "2026-03-02T12:00:00Z")[1]
    assert closed.startswith("closed, version 1\na person answers from 2026-03-09T01:00:00+00:00 on\n")
    file.write_text(json.dumps(TREE | {"groups": []}))
    assert answers("load", "line", str(file)) == (
        2,
        "",
        "nextchannel: groups == '[]', must hold at least one group\n",
    )
    for wrong in (("show", "sms"), ("load", "line", "nowhere.json"), ("try", "line", "x", "--at", "soon")):
        code, _, errors = answers(*wrong)
        assert (code, errors.count("\n")) == (2, 1), errors

"""Two replies that say the same are the same text, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from features.history.documents import from_document, to_document
from models.domain.channel import DEFAULT_CHANNELS, Channel
from serving.routes.channels import ChannelsOut

WRITTEN = """
import orjson
from features.history.documents import to_document
from models.domain.channel import DEFAULT_CHANNELS
from tests.benchmarks.core import CAMPAIGN
print(orjson.dumps([to_document(one) for one in (*DEFAULT_CHANNELS, CAMPAIGN)]).decode())
"""


def written_under(seed: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", WRITTEN],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_order_of_sets_does_not_depend_on_how_a_process_hashes():
    # With six receipts to a channel, three processes agree by chance less than once in a hundred thousand runs.
    assert len({written_under(seed) for seed in (1, 2, 3)}) == 1


def test_a_reply_lists_sets_as_the_database_does():
    reply = json.loads(ChannelsOut(channels=list(DEFAULT_CHANNELS), next_cursor=None).model_dump_json())
    assert reply["channels"] == [to_document(channel) for channel in DEFAULT_CHANNELS]
    for channel in reply["channels"]:
        for name in ("content_kinds", "receipts", "kinds_outside_window"):
            assert channel[name] == sorted(channel[name])


def test_a_document_is_read_back_as_what_it_was_written_from():
    assert all(from_document(Channel, to_document(channel)) == channel for channel in DEFAULT_CHANNELS)

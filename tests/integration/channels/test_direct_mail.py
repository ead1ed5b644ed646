"""Letters in CSV: nothing that a spreadsheet would run, no line twice, no half line."""

from __future__ import annotations

import asyncio
import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.campaign import Content
from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from serving.channels.contract import AdapterContext, FinalRefusalError, RetryLaterError
from serving.channels.direct_mail import COLUMNS, DirectMailAdapter, safe_cell
from serving.channels.testing import ExampleLinks, example_message

FILE = "direct_mail-2026-03-02.csv"
# Full-width forms of = + - @, which Excel takes for the same.
WIDE = "\uff1d\uff0b\uff0d\uff20"


def opened(folder: Path) -> DirectMailAdapter:
    return DirectMailAdapter.build(AdapterContext(links=ExampleLinks()), folder)


def letter(number: int = 0, address: str = "Ada\n1 Road\n10115 Berlin", **content: str):
    return example_message(
        channel="direct_mail",
        identity_kind=IdentityKind.ADDRESS,
        recipient=address,
        content=Content(**{"body": "Tulips", **content}),
        number=number,
    )


def rows(folder: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO((folder / FILE).read_bytes().decode(), newline="")))


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", f"{WIDE[0]}1", '=HYPERLINK("http://x")'],
)
def test_a_cell_that_begins_like_a_formula_is_marked(tmp_path, formula):
    asyncio.run(opened(tmp_path).send(letter(address=f"Ada {formula}", subject=formula, body=formula)))
    made = dict(zip(*rows(tmp_path), strict=True))
    assert made["subject"].startswith("'")
    assert made["body"].startswith("'")
    assert made["address"].startswith("Ada")


@given(st.text("=+-@ '\"\t\r\n\0\x0b\x0c\x85\u2028a" + WIDE))
def test_no_text_at_all_becomes_a_formula_or_a_second_line(text):
    cell = safe_cell(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", *WIDE))
    assert len(cell.splitlines()) <= 1


def test_every_cell_is_quoted_and_an_address_is_one_line(tmp_path):
    asyncio.run(opened(tmp_path).send(letter(body='Say "hello"; it\nis spring')))
    line = (tmp_path / FILE).read_bytes().splitlines()[1]
    assert line.count(b'","') == len(COLUMNS) - 1
    assert rows(tmp_path)[1][COLUMNS.index("address")] == "Ada, 1 Road, 10115 Berlin"
    assert rows(tmp_path)[1][COLUMNS.index("body")] == 'Say "hello"; it is spring'


def test_half_a_line_that_a_dead_writer_left_is_taken_away(tmp_path):
    adapter = opened(tmp_path)
    asyncio.run(adapter.send(letter(0)))
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + b'"00000000-half","c-1')
    asyncio.run(adapter.send(letter(1)))
    assert [row[0] for row in rows(tmp_path)] == ["message_id", letter(0).message_id, letter(1).message_id]


def test_a_head_that_was_cut_off_is_written_again(tmp_path):
    (tmp_path / FILE).write_bytes(b'"message_id","custo')
    asyncio.run(opened(tmp_path).send(letter()))
    assert rows(tmp_path)[0] == list(COLUMNS)
    assert len(rows(tmp_path)) == 2


def _write(folder: Path, numbers: range) -> None:
    async def play() -> None:
        adapter = opened(folder)
        await asyncio.gather(*(adapter.send(letter(number)) for number in numbers))

    asyncio.run(play())


def test_writers_of_the_same_letters_write_each_once(tmp_path):
    # The lock belongs to the opened file, so that threads stand in for processes.
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(_write, [tmp_path] * 3, [range(40)] * 3))
    written = [row[0] for row in rows(tmp_path)[1:]]
    assert sorted(written) == sorted(letter(number).message_id for number in range(40))


def test_what_cannot_be_written_is_tried_later_and_no_address_is_final(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(RetryLaterError):
        asyncio.run(opened(tmp_path).send(letter()))
    with pytest.raises(FinalRefusalError, match="no address"):
        asyncio.run(opened(tmp_path).send(replace(letter(), recipient=" \n ")))
    with pytest.raises(InvalidInputError, match=r"direct_mail\.folder"):
        opened(tmp_path / "absent")

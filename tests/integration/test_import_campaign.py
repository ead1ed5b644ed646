"""A campaign file into the history."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from features.history.campaigns import load_campaign
from features.history.engine import connect, migrate
from models.domain.errors import InvalidInputError, NotFoundError
from training.import_campaigns import put_campaign

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "import.md"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    return engine


@pytest.fixture
def document() -> dict[str, object]:
    """The example of the documentation."""
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    document = json.loads(found.group(1))
    assert isinstance(document, dict)
    return document


def put(engine: Engine, folder: Path, document: object) -> int:
    path = folder / "campaign.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return put_campaign(engine, path, NOW).version


def test_the_documented_example_is_stored_and_only_a_change_makes_a_version(
    engine: Engine, tmp_path: Path, document: dict[str, object]
) -> None:
    assert put(engine, tmp_path, document) == 1
    assert put(engine, tmp_path, document) == 1
    assert put(engine, tmp_path, document | {"conversion_value_minor": 2500}) == 2
    with engine.connect() as conn:
        assert load_campaign(conn, "spring").conversion_value_minor == 2500


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budgt_minor": 100}, "budgt_minor"),
        ({"experiment": {"experiment_id": "spring", "holdout": 0.1}}, "experiment.holdout"),
        ({"slots": []}, "slots"),
        ({"slots": ["9 o'clock"]}, "slots.0"),
        ({"channels": None}, "channels"),
        ({"canary_share": 2}, "canary_share"),
    ],
)
def test_a_wrong_field_is_named(
    engine: Engine, tmp_path: Path, document: dict[str, object], change: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        put(engine, tmp_path, document | change)
    assert caught.value.field == field


def test_a_file_that_is_missing_or_no_json_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        put_campaign(engine, tmp_path / "nowhere.json", NOW)
    path = tmp_path / "campaign.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="JSON"):
        put_campaign(engine, path, NOW)

"""One decision on its whole way: decided, sent, opened, clicked, converted, rewarded, reported."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import ServiceProcess


BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def campaign_document(campaign_id: str, now: datetime, **changes: object) -> dict[str, Any]:
    """A campaign with a slot every three seconds, so that a test need not wait for one."""
    soon = (now + timedelta(seconds=3 * step) for step in range(60))
    return {
        "campaign_id": campaign_id,
        "send_window": {
            "starts_at": (now - timedelta(days=1)).isoformat(),
            "ends_at": (now + timedelta(days=5)).isoformat(),
        },
        "slots": sorted(moment.time().replace(microsecond=0).isoformat() for moment in soon),
        "offers": [
            {
                "offer_id": "voucher",
                "margin_minor": 2000.0,
                "content": {
                    "html": {
                        "subject": "Ten percent for you",
                        "body": "<p>Hello <a href='https://shop.example.com/voucher'>look</a></p>",
                        "link_url": "https://shop.example.com/voucher",
                    }
                },
            }
        ],
        "channels": ["email"],
        "experiment": {"experiment_id": campaign_id},
        "conversion_value_minor": 2000.0,
        "policy": "cheapest_first",
        "quiet_hours": {"start": "00:00:00", "end": "00:00:00"},
    } | changes


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    """What `check` gives once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing within {seconds} s")


@pytest.fixture
def shop(service: ServiceProcess, tmp_path: Path) -> ServiceProcess:
    """Two customers; one of them has agreed to e-mail."""
    customers = tmp_path / "customers.csv"
    customers.write_text(
        "customer_id,time_zone,created_at,email,consent_email\n"
        "anna,UTC,2025-01-01T00:00:00Z,anna@example.com,granted\n"
        "ben,UTC,2025-01-01T00:00:00Z,ben@example.com,\n"
    )
    done = service.command("import", "customers", str(customers))
    assert done.returncode == 0, done.stderr
    return service


def put_campaign(service: ServiceProcess, folder: Path, document: dict[str, Any]) -> None:
    file = folder / "campaign.json"
    file.write_text(json.dumps(document))
    done = service.command("campaign", "put", str(file))
    assert done.returncode == 0, done.stderr


def test_a_decision_becomes_a_mail_a_reward_and_a_line_of_the_report(
    shop: ServiceProcess, tmp_path: Path
) -> None:
    shop.start()
    put_campaign(shop, tmp_path, campaign_document("spring", datetime.now(UTC)))
    with httpx.Client(base_url=shop.address) as client:
        ask = {"customer_id": "anna", "campaign_id": "spring"}
        answer = eventually(
            lambda: (reply := client.post("/v1/decisions", json=ask)).status_code == 200 and reply.json()
        )
        assert answer["action"]["channel"] == "email"
        assert answer["propensity"] == 1.0

        mail = eventually(lambda: shop.sink.received)[0].parsed
        assert mail["To"] == "anna@example.com"
        assert mail["Subject"] == "Ten percent for you"
        html = mail.get_body(("html",))
        assert html is not None
        link = re.search(rf"{shop.address}/t/c/[^\s'\"<>]+", html.get_content())
        assert link is not None
        time.sleep(2.5)  # sooner, it would count as a scanner's
        followed = client.get(link.group(), headers={"User-Agent": BROWSER})
        assert followed.status_code in (302, 303, 307)
        assert followed.headers["location"] == "https://shop.example.com/voucher"

        moment = datetime.now(UTC).isoformat()
        facts = [
            {
                "source": "shop",
                "event_id": f"{kind}-1",
                "customer_id": "anna",
                "kind": kind,
                "occurred_at": moment,
                "channel": "email",
                "campaign_id": "spring",
                "decision_id": answer["decision_id"],
            }
            for kind in ("opened", "converted")
        ]
        assert client.post("/v1/interactions", json={"interactions": facts}).status_code in (200, 202)
        row = eventually(lambda: _email_row(client))
        assert (row["planned"], row["sent"], row["opened"], row["clicked"], row["converted"]) == (
            1,
            1,
            1,
            1,
            1,
        )
        assert row["net_value_minor"] == pytest.approx(2000.0 - 0.01)
        page = client.get("/", params={"campaign_id": "spring"}).text
        assert "email" in page
        assert "19.99" in page or "20.00" in page


def _email_row(client: httpx.Client) -> dict[str, Any] | None:
    report = client.get("/v1/report", params={"campaign_id": "spring"}).json()
    rows = [row for row in report["funnel"] if row["channel"] == "email" and row["converted"]]
    return rows[0] if rows else None


def test_a_service_killed_between_decision_and_send_sends_once_when_it_is_back(
    shop: ServiceProcess, tmp_path: Path
) -> None:
    shop.send = False  # the decision is taken, and nobody sends yet
    shop.start()
    put_campaign(shop, tmp_path, campaign_document("spring", datetime.now(UTC)))
    with httpx.Client(base_url=shop.address) as client:
        ask = {"customer_id": "anna", "campaign_id": "spring"}
        eventually(lambda: client.post("/v1/decisions", json=ask).status_code == 200)
    shop.stop(signal.SIGKILL)
    assert not shop.sink.received
    shop.send = True
    shop.start()
    eventually(lambda: shop.sink.received)
    shop.stop(signal.SIGKILL)
    shop.start()
    time.sleep(3)
    assert len(shop.sink.received) == 1


def test_who_has_not_agreed_is_left_alone_and_told_why(shop: ServiceProcess, tmp_path: Path) -> None:
    put_campaign(shop, tmp_path, campaign_document("spring", datetime.now(UTC)))
    shop.start()
    ask = {"customer_id": "ben", "campaign_id": "spring"}
    answer = httpx.post(f"{shop.address}/v1/decisions", json=ask).json()
    assert answer["action"] is None
    assert answer["propensity"] == 1.0
    assert [one["reason"] for one in answer["exclusions"]] == ["no_consent"]

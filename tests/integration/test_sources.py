"""Whose data a profile holds: our own, a partner's, a third party's or of somebody anonymous, in one person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models.domain.party import Party
from serving.app import create_app
from serving.customers import Customers

PARTIES = {"rakuten": Party.SECOND, "audience-shop": Party.THIRD}


@pytest.fixture
def api(market: Any) -> Iterator[TestClient]:
    market.customers("ada", "bob")
    service = market.service(start=False)
    told = replace(service, customers=Customers(market.engine, market.features, None, PARTIES))
    with TestClient(create_app(told), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        yield client


def tell(api: TestClient, market: Any, source: str, number: int, **whom: object) -> None:
    fact = {
        "source": source,
        "event_id": f"{source}-{number}",
        "kind": "viewed",
        "occurred_at": (market.now - timedelta(hours=number)).isoformat(),
        **whom,
    }
    answer = api.post("/v1/interactions", json={"interactions": [fact]})
    assert answer.status_code == 200, answer.text


def sources(api: TestClient, customer_id: str) -> dict[tuple[str, str], int]:
    profile = api.get(f"/v1/customers/{customer_id}").json()
    return {(one["party"], one["source"]): one["n_interactions"] for one in profile["sources"]}


def test_a_profile_tells_our_own_data_from_a_marketplaces_and_from_what_an_anonymous_visitor_left(
    api: TestClient, market: Any
) -> None:
    cookie = {"kind": "cookie", "value": "cookie-of-ada"}
    tell(api, market, "site", 9, identity=cookie)
    tell(api, market, "site", 8, identity=cookie)
    stitched = api.post(
        "/v1/identities:link",
        json={"identities": [cookie], "source": "login", "customer_id": "ada"},
    ).json()
    assert (stitched["customer_id"], len(stitched["merged"])) == ("ada", 1)
    tell(api, market, "site", 3, customer_id="ada")
    tell(api, market, "site", 2, identity=cookie)
    tell(api, market, "rakuten", 5, customer_id="ada")
    tell(api, market, "audience-shop", 4, customer_id="ada")
    found = sources(api, "ada")
    # Seen before the log-in: two. Afterwards the cookie is known to be hers.
    assert {key: n for key, n in found.items() if n} == {
        ("first", "site"): 2,
        ("second", "rakuten"): 1,
        ("third", "audience-shop"): 1,
        ("third", "site"): 2,
    }
    assert list(found) == sorted(found), "our own come first"


def test_times_and_counts_of_a_source_span_all_that_it_told(api: TestClient, market: Any) -> None:
    for number in (7, 1, 4):
        tell(api, market, "rakuten", number, customer_id="bob")
    said = {"channel": "email", "purpose": "marketing", "status": "granted", "source": "rakuten"}
    assert api.post("/v1/customers/bob/consents", json={"consents": [said]}).status_code == 200
    profile = api.get("/v1/customers/bob").json()
    (told,) = [one for one in profile["sources"] if one["source"] == "rakuten"]
    assert (told["n_interactions"], told["n_consents"], told["n_identities"]) == (3, 1, 0)
    assert told["party"] == "second"
    assert told["first_at"] == (market.now - timedelta(hours=7)).isoformat().replace("+00:00", "Z")
    assert told["last_at"] == market.now.isoformat().replace("+00:00", "Z")


def test_somebody_of_whom_only_a_cookie_is_known_is_third_party_data(api: TestClient, market: Any) -> None:
    tell(api, market, "site", 1, identity={"kind": "cookie", "value": "nobody-yet"})
    answer = api.post(
        "/v1/identities:link",
        json={"identities": [{"kind": "cookie", "value": "nobody-yet"}], "source": "site"},
    ).json()
    visitor = api.get(f"/v1/customers/{answer['customer_id']}").json()
    assert visitor["anonymous"]
    assert [(one["party"], one["source"]) for one in visitor["sources"]] == [("third", "site")]


def test_the_page_says_whose_data_it_shows(api: TestClient, market: Any) -> None:
    tell(api, market, "rakuten", 1, customer_id="bob")
    page = api.get("/customers/bob")
    assert page.status_code == 200
    assert "rakuten" in page.text
    assert "a partner&#39;s" in page.text or "a partner's" in page.text

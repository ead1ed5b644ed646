from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from models.domain.action import Action, Exclusion, ReasonCode
from models.domain.experiment import Arm
from serving.explain.english import ENGLISH
from serving.explain.summary import Grounds, Ranked, explain
from serving.money import Currency

SEND_AT = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


def action(channel: str = "email") -> Action:
    return Action(offer="coats", channel=channel, slot=0, send_at=SEND_AT, expires_at=SEND_AT)


def other(value: float | None, channel: str | None = "sms") -> Ranked:
    return Ranked(None if channel is None else action(channel), value)


def grounds(**changes: object) -> Grounds:
    plain = {
        "action": action(),
        "propensity": 0.8,
        "net_value_minor": 40.0,
        "alternatives": (other(31.0), other(0.0, None)),
        "exclusions": (),
        "arm": Arm.TREATMENT,
        "policy": "bandit",
        "n_candidates": 3,
        "time_zone": "Asia/Taipei",
    }
    return Grounds(**(plain | changes))


def sentence(**changes: object) -> str:
    return explain(grounds(**changes), Currency())


def test_the_best_action_is_said_with_its_value_its_local_time_and_the_runner_up():
    assert sentence() == (
        "Send coats by email at Mon 2 Mar 09:00: it is expected to earn 0.40 USD more than no contact, the most of 3 "
        "candidates; next came coats by SMS at Mon 2 Mar 09:00 with 0.31 USD."
    )


def test_an_action_that_is_not_the_best_is_called_learning():
    words = sentence(net_value_minor=10.0, propensity=0.025)
    assert "drawn with probability 0.025 so that we keep learning" in words


def test_a_rule_without_predictions_names_itself_and_no_value():
    words = sentence(
        net_value_minor=None, alternatives=(other(None),), propensity=1.0, policy="cheapest_first"
    )
    assert "the rule cheapest_first puts it first among 3 candidates" in words
    assert "USD" not in words


def test_a_rule_that_draws_says_with_what_probability():
    words = sentence(net_value_minor=None, alternatives=(), propensity=0.25, policy="uniform")
    assert "the rule uniform drew it with probability 0.25 from 3 candidates" in words


def test_a_rule_is_never_called_learning_where_a_model_values_what_it_chose():
    """In shadow, outside the canary and in the control arm a rule decides although there is a model."""
    chosen = sentence(net_value_minor=-2.4, propensity=1.0, policy="cheapest_first")
    assert chosen == (
        "Send coats by email at Mon 2 Mar 09:00: the rule cheapest_first puts it first among 3 candidates; "
        "next came coats by SMS at Mon 2 Mar 09:00 with 0.31 USD."
    )
    drawn = sentence(net_value_minor=10.0, propensity=0.25, policy="uniform")
    assert "the rule uniform drew it with probability 0.25" in drawn
    silent = sentence(
        action=None, net_value_minor=0.0, alternatives=(other(9.0),), propensity=0.25, policy="uniform"
    )
    assert silent == "No contact: the rule uniform gives it with probability 0.25."


def test_silence_has_its_reason():
    silent = {"action": None, "net_value_minor": 0.0, "propensity": 1.0}
    assert "holdout" in sentence(**silent, arm=Arm.HOLDOUT)
    best = sentence(**silent, alternatives=(other(-2.0),))
    assert "the best alternative, coats by SMS at Mon 2 Mar 09:00, is expected to earn -0.02 USD" in best
    assert "drawn with probability 1" in sentence(**silent)
    assert "uniform" in sentence(
        action=None, net_value_minor=None, alternatives=(other(None),), policy="uniform"
    )


def test_closed_channels_are_grouped_by_reason_the_most_frequent_first():
    exclusions = (
        Exclusion(reason=ReasonCode.NO_IDENTITY, channel="line"),
        Exclusion(reason=ReasonCode.NO_CONSENT, channel="email"),
        Exclusion(reason=ReasonCode.NO_CONSENT, channel="sms"),
    )
    assert sentence(
        action=None, net_value_minor=0.0, alternatives=(), exclusions=exclusions, n_candidates=1
    ) == (
        "No contact: no channel is left, because the customer has not agreed to this channel for this purpose "
        "(email, SMS), the customer has no account on this channel (LINE)."
    )


def test_another_language_is_another_table():
    german = replace(ENGLISH, holdout="Kein Kontakt: Vergleichsgruppe.")
    assert (
        explain(grounds(action=None, arm=Arm.HOLDOUT), Currency(), german)
        == "Kein Kontakt: Vergleichsgruppe."
    )


def test_currencies_without_minor_units_are_written_without_digits():
    assert Currency("JPY", 0).words(1234) == "1,234 JPY"

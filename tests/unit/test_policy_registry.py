"""Every policy under its name."""

from datetime import UTC, datetime, time

from models.domain.campaign import Campaign, Content, Offer, PolicyName, SendWindow
from models.domain.channel import ContentKind
from models.domain.experiment import Experiment
from models.policy.bandit import Bandit
from models.policy.registry import build_policies

CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(
        starts_at=datetime(2026, 3, 1, tzinfo=UTC), ends_at=datetime(2026, 4, 1, tzinfo=UTC)
    ),
    slots=(time(9), time(18)),
    offers=(
        Offer(offer_id="a", margin_minor=1_200.0, content={ContentKind.TEXT: Content(body="hello")}),
        Offer(offer_id="b", margin_minor=3_000.0, content={ContentKind.TEXT: Content(body="hello")}),
    ),
    channels=("email", "sms"),
    experiment=Experiment(experiment_id="spring"),
    conversion_value_minor=3_000.0,
    fixed_slot=1,
    pinned_channel="sms",
)


def test_every_policy_stands_under_its_own_name() -> None:
    policies = build_policies(CAMPAIGN, Bandit.fresh(CAMPAIGN.channels, CAMPAIGN.slots))
    assert {name: policy.name for name, policy in policies.items()} == {
        name: name.value for name in PolicyName
    }
    assert all(policy.version for policy in policies.values())


def test_without_a_bandit_there_is_none_under_its_name() -> None:
    assert PolicyName.BANDIT not in build_policies(CAMPAIGN)


def test_the_bandit_explores_in_proportion_to_the_largest_margin() -> None:
    bandit = build_policies(CAMPAIGN, Bandit.fresh(CAMPAIGN.channels, CAMPAIGN.slots))[PolicyName.BANDIT]
    assert isinstance(bandit, Bandit)
    assert bandit.exploration.value_scale_minor == 3_000.0

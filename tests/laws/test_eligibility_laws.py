"""Laws of eligibility and of the choice that follows it."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.choice import BoolArray
from models.choose import candidate_mask, choose
from models.domain.campaign import Campaign, Caps, Content, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind, Touch
from models.domain.customer import ConsentStatus, Customer, PastContact
from models.domain.eligibility import Limits, eligible
from models.domain.experiment import Experiment
from models.policy.registry import build_policies

NOW = datetime(2026, 3, 28, 22, tzinfo=UTC)
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
NAMES = ("email", "push", "line", "sms", "messenger", "call")

offers = st.lists(st.sets(st.sampled_from(ContentKind), min_size=1), min_size=1, max_size=3).map(
    lambda kinds: tuple(
        Offer(offer_id=f"o{i}", margin_minor=1_000.0, content={kind: Content(body="x") for kind in some})
        for i, some in enumerate(kinds)
    )
)
hours = st.integers(0, 23).map(time)
caps = st.builds(
    Caps,
    contacts=st.none() | st.integers(0, 3),
    contacts_per_channel=st.none() | st.integers(0, 2),
    contacts_per_campaign=st.none() | st.integers(0, 2),
)


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    names = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
    starts = NOW + timedelta(hours=draw(st.integers(-48, 24)))
    return Campaign(
        campaign_id="spring",
        send_window=SendWindow(starts_at=starts, ends_at=NOW + timedelta(hours=draw(st.integers(25, 60)))),
        slots=tuple(sorted(draw(st.sets(hours, min_size=1, max_size=5)))),
        offers=draw(offers),
        channels=names,
        experiment=Experiment(experiment_id="spring", holdout_share=0.2, control_share=0.3),
        conversion_value_minor=1_000.0,
        policy=draw(st.sampled_from([PolicyName.UNIFORM, PolicyName.CHEAPEST_FIRST, PolicyName.FIXED_TIME])),
        pinned_channel=draw(st.none() | st.sampled_from(names)),
        quiet_hours=QuietHours(start=draw(hours), end=draw(hours)),
        caps=draw(caps),
        touch_levels=frozenset(draw(st.sets(st.sampled_from(Touch), min_size=1))),
    )


@st.composite
def customers(draw: st.DrawFn) -> Customer:
    past = st.builds(
        PastContact,
        channel=st.sampled_from(NAMES),
        campaign_id=st.sampled_from(["spring", "other"]),
        contacted_at=st.integers(-12, 240).map(lambda ago: NOW - timedelta(hours=ago)),
    )
    kinds = sorted({channel.identity_kind for channel in CHANNELS.values()})
    return Customer(
        customer_id=f"c-{draw(st.integers(0, 99))}",
        time_zone=draw(
            st.sampled_from(["Asia/Taipei", "Europe/Berlin", "America/New_York", "Australia/Sydney"])
        ),
        identities={kind: "x" for kind in kinds if draw(st.integers(0, 3))},
        consents={
            (name, "marketing"): draw(st.sampled_from(ConsentStatus))
            if not draw(st.integers(0, 2))
            else ConsentStatus.GRANTED
            for name in NAMES
        },
        contacts=tuple(draw(st.lists(past, max_size=4))),
        replied_at={"messenger": NOW - timedelta(hours=draw(st.integers(0, 48)))},
    )


limits_drawn = st.builds(
    Limits,
    budget_left_minor=st.none() | st.sampled_from([0.0, 0.2, 1.0, 100.0]),
    capacity_left=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2)),
    channels_down=st.frozensets(st.sampled_from(NAMES), max_size=2),
)


def candidates(campaign: Campaign, customer: Customer, limits: Limits) -> BoolArray:
    return candidate_mask(campaign.grid, [eligible(campaign, CHANNELS, customer, NOW, limits)])[0]


@given(campaign=campaigns(), people=st.lists(customers(), max_size=4), limits=limits_drawn)
@settings(max_examples=60, deadline=None)
def test_nothing_ineligible_is_ever_chosen(
    campaign: Campaign, people: list[Customer], limits: Limits
) -> None:
    chosen = choose(
        campaign,
        CHANNELS,
        people,
        np.zeros((len(people), 0)),
        None,
        build_policies(campaign),
        [f"d-{i}" for i in range(len(people))],
        NOW,
        limits,
    )
    for verdict, action in zip(chosen.eligibility, chosen.action, strict=True):
        place = campaign.grid.unravel(int(action))
        assert place is None or verdict.reason(*place) is None
    assert (chosen.propensity > 0).all()


@given(campaign=campaigns(), customer=customers(), limits=limits_drawn)
@settings(max_examples=60, deadline=None)
def test_the_mask_says_what_the_reasons_say(campaign: Campaign, customer: Customer, limits: Limits) -> None:
    verdict = eligible(campaign, CHANNELS, customer, NOW, limits)
    mask = candidate_mask(campaign.grid, [verdict])[0]
    assert mask[-1]
    for action in range(campaign.grid.n_actions - 1):
        place = campaign.grid.unravel(action)
        assert place is not None
        assert mask[action] == (verdict.reason(*place) is None)


@given(campaign=campaigns(), customer=customers(), limits=limits_drawn, which=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_loosening_a_constraint_never_loses_a_candidate(
    campaign: Campaign, customer: Customer, limits: Limits, which: int
) -> None:
    window = campaign.send_window
    looser: list[tuple[Campaign, Customer, Limits]] = [
        (replace(campaign, caps=Caps(contacts=None)), customer, limits),
        (replace(campaign, caps=replace(campaign.caps, window_seconds=3_600)), customer, limits),
        (replace(campaign, quiet_hours=QuietHours(start=time(0), end=time(0))), customer, limits),
        (replace(campaign, touch_levels=frozenset(Touch)), customer, limits),
        (replace(campaign, pinned_channel=None), customer, limits),
        (
            replace(
                campaign,
                send_window=SendWindow(
                    starts_at=window.starts_at - timedelta(days=1), ends_at=window.ends_at + timedelta(days=1)
                ),
            ),
            customer,
            limits,
        ),
        (campaign, replace(customer, contacts=customer.contacts[1:]), limits),
        (
            campaign,
            replace(customer, consents=dict.fromkeys(customer.consents, ConsentStatus.GRANTED)),
            limits,
        ),
        (campaign, replace(customer, replied_at={"messenger": NOW}), limits),
        (campaign, customer, Limits()),
    ]
    before = candidates(campaign, customer, limits)
    after = candidates(*looser[which])
    assert (after >= before).all()


@given(campaign=campaigns(), customer=customers(), limits=limits_drawn)
@settings(max_examples=40, deadline=None)
def test_a_pinned_channel_leaves_that_channel_and_no_contact(
    campaign: Campaign, customer: Customer, limits: Limits
) -> None:
    free = replace(campaign, pinned_channel=None)
    pinned = replace(campaign, pinned_channel=campaign.channels[-1])
    grid = campaign.grid
    left = candidates(pinned, customer, limits)[:-1].reshape(grid.shape)
    assert not left[:, :-1].any()
    assert (left[:, -1] == candidates(free, customer, limits)[:-1].reshape(grid.shape)[:, -1]).all()
    assert candidates(pinned, customer, limits)[-1]

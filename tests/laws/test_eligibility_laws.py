"""Laws of eligibility and of the choice that follows it."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candidates import candidates as candidates_of
from models.candidates import mask_of
from models.choice import BoolArray
from models.choose import choose
from models.domain.campaign import Campaign, Caps, Content, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind, Touch
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Customer, MessageClass, PastContact
from models.domain.eligibility import Limits, eligible
from models.domain.experiment import Experiment
from models.policy.registry import build_policies

NOW = datetime(2026, 3, 28, 22, tzinfo=UTC)
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
CHANNELS["whatsapp"] = replace(CHANNELS["whatsapp"], cost_minor=1.0)
NAMES = ("email", "push", "line", "sms", "whatsapp", "messenger", "call")
ZONES = ("Asia/Taipei", "Europe/Berlin", "America/New_York", "Australia/Sydney")
TOO_LONG_FOR_SMS = "x" * 2_000

offers = st.lists(st.sets(st.sampled_from(ContentKind), min_size=1), min_size=1, max_size=3).map(
    lambda kinds: tuple(
        Offer(
            offer_id=f"o{i}",
            margin_minor=1_000.0,
            content={kind: Content(body=TOO_LONG_FOR_SMS if i == 1 else "x") for kind in some},
        )
        for i, some in enumerate(kinds)
    )
)
# Half past two is skipped in Berlin on the 29th.
hours = st.integers(0, 23).map(time) | st.just(time(2, 30))
classes = st.frozensets(st.sampled_from(MessageClass), min_size=1)
caps = st.builds(
    Caps,
    contacts=st.none() | st.integers(0, 3),
    contacts_per_channel=st.none() | st.integers(0, 2),
    contacts_on=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), max_size=2),
    contacts_per_campaign=st.none() | st.integers(0, 2),
    message_classes=classes,
)


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    names = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
    starts = NOW + timedelta(hours=draw(st.integers(-48, 24)))
    return Campaign(
        campaign_id="spring",
        message_class=draw(st.sampled_from(MessageClass)),
        send_window=SendWindow(
            starts_at=starts,
            ends_at=NOW + timedelta(hours=draw(st.integers(25, 60))),
            in_local_time=draw(st.booleans()),
        ),
        slots=tuple(sorted(draw(st.sets(hours, min_size=1, max_size=5)))),
        offers=draw(offers),
        channels=names,
        experiment=Experiment(experiment_id="spring", holdout_share=0.2, control_share=0.3),
        conversion_value_minor=1_000.0,
        policy=draw(st.sampled_from([PolicyName.UNIFORM, PolicyName.CHEAPEST_FIRST, PolicyName.FIXED_TIME])),
        pinned_channel=draw(st.none() | st.sampled_from(names)),
        quiet_hours=QuietHours(start=draw(hours), end=draw(hours), message_classes=draw(classes)),
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
        message_class=st.sampled_from(MessageClass),
    )
    kinds = sorted({channel.identity_kind for channel in CHANNELS.values()})
    return Customer(
        customer_id=f"c-{draw(st.integers(0, 99))}",
        time_zone=draw(st.sampled_from(ZONES)),
        identities={kind: "x" for kind in kinds if draw(st.integers(0, 3))},
        consents={
            (name, "marketing"): draw(st.sampled_from(ConsentStatus))
            if not draw(st.integers(0, 2))
            else ConsentStatus.GRANTED
            for name in NAMES
        }
        | (
            {}
            if draw(st.integers(0, 4))
            else {(EVERY_CHANNEL, "marketing"): draw(st.sampled_from(ConsentStatus))}
        ),
        contacts=tuple(draw(st.lists(past, max_size=4))),
        earlier_contacts=draw(st.dictionaries(st.sampled_from(["spring", "other"]), st.integers(1, 2))),
        replied_at={
            name: NOW - timedelta(hours=draw(st.integers(0, 48)))
            for name in ("whatsapp", "messenger")
            if draw(st.booleans())
        },
    )


limits_drawn = st.builds(
    Limits,
    budget_left_minor=st.none() | st.sampled_from([0.0, 0.2, 1.0, 100.0]),
    capacity_left=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2)),
    channels_down=st.frozensets(st.sampled_from(NAMES), max_size=2),
    channels_used=st.frozensets(st.sampled_from(NAMES), max_size=2),
    offers=st.none() | st.frozensets(st.sampled_from(["o0", "o1", "o2"]), max_size=2),
    at_once=st.booleans(),
)


def shortened(offer: Offer) -> Offer:
    return replace(offer, content={kind: replace(one, body="x") for kind, one in offer.content.items()})


def candidates(campaign: Campaign, customer: Customer, limits: Limits) -> BoolArray:
    return mask_of(campaign.grid, [eligible(campaign, CHANNELS, customer, NOW, limits)])[0]


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
    mask = mask_of(campaign.grid, [verdict])[0]
    assert mask[-1]
    for action in range(campaign.grid.n_actions - 1):
        place = campaign.grid.unravel(action)
        assert place is not None
        assert mask[action] == (verdict.reason(*place) is None)


@given(
    campaign=campaigns(),
    people=st.lists(customers(), max_size=6),
    limits=limits_drawn,
    minutes=st.integers(-120, 24 * 60),
)
@settings(max_examples=150, deadline=None)
def test_the_arrays_say_what_the_plain_rules_say(
    campaign: Campaign, people: list[Customer], limits: Limits, minutes: int
) -> None:
    now = NOW + timedelta(minutes=minutes)
    verdicts = [eligible(campaign, CHANNELS, person, now, limits) for person in people]
    found = candidates_of(campaign, CHANNELS, people, now, limits)
    assert list(found) == verdicts
    assert (found.mask == mask_of(campaign.grid, verdicts)).all()
    assert found.send_at.tolist() == [[at.timestamp() for at in verdict.send_at] for verdict in verdicts]
    for customer, verdict in zip(people, verdicts, strict=True):
        alone = choose(
            campaign,
            CHANNELS,
            [customer],
            np.zeros((1, 0)),
            None,
            build_policies(campaign),
            ["d"],
            now,
            limits,
        )
        assert alone.eligibility[0] == verdict


@given(campaign=campaigns(), customer=customers(), limits=limits_drawn)
@settings(max_examples=60, deadline=None)
def test_exclusions_and_candidates_make_up_the_whole_grid(
    campaign: Campaign, customer: Customer, limits: Limits
) -> None:
    verdict = eligible(campaign, CHANNELS, customer, NOW, limits)
    grid = campaign.grid
    excluded = np.zeros(grid.shape, dtype=np.bool_)
    for one in verdict.exclusions(campaign):
        at = (
            slice(None) if one.offer is None else grid.offers.index(one.offer),
            slice(None) if one.channel is None else grid.channels.index(one.channel),
            slice(None) if one.slot is None else one.slot,
        )
        excluded[at] = True
    assert (excluded.ravel() != candidates(campaign, customer, limits)[:-1]).all()


@given(campaign=campaigns(), customer=customers(), limits=limits_drawn, which=st.integers(0, 12))
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
        (campaign, replace(customer, replied_at=dict.fromkeys(NAMES, NOW)), limits),
        (
            replace(
                campaign, message_class=MessageClass.TRANSACTIONAL, caps=Caps(), quiet_hours=QuietHours()
            ),
            customer,
            limits,
        ),
        (replace(campaign, caps=replace(campaign.caps, contacts_per_campaign=None)), customer, limits),
        (replace(campaign, offers=tuple(shortened(offer) for offer in campaign.offers)), customer, limits),
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

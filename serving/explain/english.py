"""English."""

from __future__ import annotations

from models.domain.action import REASON_WORDS, ReasonCode
from models.domain.interaction import InteractionKind
from models.explanation.flips import FlipKind
from serving.explain.catalogue import Absence, Catalogue, Language, Span
from serving.occasions.cause import CauseKind

ENGLISH = Catalogue(
    language=Language.ENGLISH,
    own_name="English",
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    months=("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    moment="{weekday} {day} {month} {clock}",
    between=", ",
    clauses=", ",
    together=" and ",
    action="{offer} by {channel} at {at}",
    no_contact="no contact",
    contact="Send {action}: {why}{runner_up}.",
    why_best="it is expected to earn {value} more than no contact, the most of {n} candidates",
    why_learning=(
        "it is expected to earn {value} against no contact and was drawn with probability {propensity} "
        "so that we keep learning"
    ),
    why_rule="the rule {policy} puts it first among {n} candidates",
    why_drawn="the rule {policy} drew it with probability {propensity} from {n} candidates",
    runner_up="; next came {action} with {value}",
    runner_up_rule="; next came {action}",
    holdout=(
        "No contact: the customer is in the holdout, which is never contacted, so that we know what contact adds."
    ),
    nothing_left="No contact: no channel is left, because {reasons}.",
    silence_best=(
        "No contact: the best alternative, {action}, is expected to earn {value} against leaving the customer alone."
    ),
    silence_drawn="No contact: drawn with probability {propensity} so that we keep learning{runner_up}.",
    silence_rule="No contact: the rule {policy} gives it with probability {propensity}.",
    contest_won=" It was chosen among the messages of {n} campaigns.",
    contest_lost="No contact by this campaign: the customer gets the message of {campaign}, which was asked at the same time.",
    reason="{words} ({where})",
    alternative="{rank}. {action}: expected to earn {value} against no contact, probability {propensity}.",
    alternative_rule="{rank}. {action}: probability {propensity}.",
    excluded="{place}: {words}.",
    everywhere="Every channel",
    slot="The slot at {clock}",
    p_open=(
        "The message is opened with a probability of {total}; an average customer on the same channel at the same "
        "time: {base}. Most of the difference comes from {parts}."
    ),
    uplift=(
        "The contact changes the probability of a conversion by {total} percentage points; for an average customer: "
        "{base}. Most of the difference comes from {parts}."
    ),
    part="{name} ({points} points)",
    nobody="no feature",
    trait="{name}: {inside} on average, against {outside} for everybody else ({d} standard deviations).",
    trait_share="{name}: {inside} of the members, against {outside} of everybody else ({d} standard deviations).",
    trait_apart="{name}: {inside} for every member, {outside} for everybody else.",
    trait_defining=" The segment asks for this.",
    no_traits="Nothing that is known of the members sets them apart from everybody else with certainty.",
    scarce=(
        "Messages by {channel} were scarce: room for one more was worth {price} to others, which is taken off here, beside the cost."
    ),
    occasions={
        CauseKind.ANNIVERSARY: (
            "Asked for by the occasion {name}: {distance} the {occurrence} anniversary of {attribute}; due {at}."
        ),
        CauseKind.DATE: (
            "Asked for by the occasion {name}: {distance} {occurrence}, the customer's {attribute}; due {at}."
        ),
        CauseKind.FACT: "Asked for by the occasion {name}: {wait} the {fact} of {fact_at}; due {at}.",
        CauseKind.REFERRAL: (
            "Asked for by the occasion {name}: {wait} the first purchase or conversion of {friend}, whom the customer referred ({fact_at}); due {at}."
        ),
        CauseKind.FORGOTTEN: (
            "Asked for by the occasion {name}. Which occurrence it was is not kept any more."
        ),
    },
    on_the_day="on",
    days_before="{span} before",
    days_after="{span} after",
    wait="{span} after",
    at_once="right after",
    a_friend="a friend",
    facts={
        InteractionKind.REGISTERED: "registration",
        InteractionKind.PURCHASED: "purchase",
        InteractionKind.CONVERTED: "conversion",
        InteractionKind.CALLED: "call",
        InteractionKind.ISSUE_RAISED: "issue",
        InteractionKind.FOLLOWED: "follow",
    },
    spans={
        Span.DAY: "{n} day",
        Span.DAYS: "{n} days",
        Span.HOUR: "{n} hour",
        Span.HOURS: "{n} hours",
        Span.MINUTE: "{n} minute",
        Span.MINUTES: "{n} minutes",
        Span.SECOND: "{n} second",
        Span.SECONDS: "{n} seconds",
    },
    reasons=REASON_WORDS,
    flips={
        FlipKind.COST_BELOW: (
            "If a message by {channel} cost less than {threshold} (now {present}), {winner} would win."
        ),
        FlipKind.COST_ABOVE: (
            "If a message by {channel} cost more than {threshold} (now {present}), {winner} would win."
        ),
        FlipKind.MARGIN_BELOW: (
            "If a conversion of {offer} earned less than {threshold} (now {present}), {winner} would win."
        ),
        FlipKind.MARGIN_ABOVE: (
            "If a conversion of {offer} earned more than {threshold} (now {present}), {winner} would win."
        ),
        FlipKind.ALL_MARGINS_BELOW: (
            "If every conversion earned less than {threshold} of what it earns now, {winner} would win."
        ),
        FlipKind.NOT_BEFORE: "If it could only go out after {threshold}, {winner} would win.",
        FlipKind.NOT_AFTER: "If it had to go out before {threshold}, {winner} would win.",
        FlipKind.OPENED: "With {without}, {channel} would be worth {gain} more: {winner}.",
    },
    without={
        ReasonCode.NO_IDENTITY: "an account on the channel",
        ReasonCode.NO_CONSENT: "consent",
        ReasonCode.PROVIDER_WINDOW: "a message from the customer first",
        ReasonCode.CHANNEL_DOWN: "the channel working",
        ReasonCode.CAPACITY_EXHAUSTED: "capacity left for the day",
        ReasonCode.BUDGET_EXHAUSTED: "budget left",
        ReasonCode.CHANNEL_PINNED: "the campaign free to choose the channel",
        ReasonCode.TOUCH_LEVEL: "this touch level allowed",
    },
    absences={
        Absence.HOLDOUT: "The customer is in the holdout: no values were weighed.",
        Absence.RULE: "The rule that decided does not weigh values.",
        Absence.NOT_RECORDED: "The decision was recorded without the values and prices that this takes.",
        Absence.MODEL_GONE: "Model version {version}, which decided, can no longer be loaded.",
        Absence.NOT_REPRODUCED: "Model version {version} now gives other values than those that were recorded.",
        Absence.MODEL_SILENT: "Model version {version} cannot say what its predictions are made of.",
        Absence.NO_CANDIDATE: "There was no contact to choose.",
        Absence.CUSTOMER_GONE: "The customer's record has been erased.",
    },
    channels={
        "email": "email",
        "sms": "SMS",
        "line": "LINE",
        "push": "push",
        "web_push": "web push",
        "whatsapp": "WhatsApp",
        "messenger": "Messenger",
        "instagram": "Instagram",
        "wechat": "WeChat",
        "call": "phone call",
        "direct_mail": "direct mail",
    },
    policies={},
    features={
        "days_since_purchase": "days since the last purchase",
        "days_since_visit": "days since the last visit",
        "days_since_cart": "days since the last cart",
        "days_since_contact": "days since the last contact",
        "days_since_response": "days since the last response",
        "days_since_conversion": "days since the last conversion",
        "purchases": "purchases",
        "spend": "spend",
        "mean_purchase": "mean purchase",
        "visits": "visits",
        "carts": "carts",
        "carts_abandoned": "abandoned carts",
        "conversions": "conversions",
        "contacts": "contacts",
        "sends": "messages sent",
        "opens": "opens",
        "clicks": "clicks",
        "open_rate": "open rate",
        "click_rate": "click rate",
        "replies": "replies",
        "calls": "calls",
        "refusals": "refusals",
        "open_share_night": "opens at night",
        "open_share_morning": "opens in the morning",
        "open_share_afternoon": "opens in the afternoon",
        "open_share_evening": "opens in the evening",
        "visit_share_06_09": "visits from 6:00 to 9:00",
        "visit_share_09_12": "visits from 9:00 to 12:00",
        "visit_share_12_15": "visits from 12:00 to 15:00",
        "visit_share_15_18": "visits from 15:00 to 18:00",
        "visit_share_18_21": "visits from 18:00 to 21:00",
        "visit_share_21_24": "visits from 21:00 to 24:00",
        "tenure_days": "days as a customer",
        "n_identities": "number of accounts",
        "n_consents": "number of consents",
        "days_since_refusal": "days since the last refusal",
        "online_spend": "spend online",
        "shop_spend": "spend in shops",
        "phone_spend": "spend by phone",
        "discount_share": "share of discounted purchases",
        "lifecycle_stage": "stage of the customer's life",
        "hours_since_open_cart": "hours since the open cart",
        "registrations_abandoned": "abandoned registrations",
        "contacts_since_response": "contacts since the last response",
        "failures": "messages that did not arrive",
        "low_touch_contacts": "contacts with some human effort",
        "high_touch_contacts": "personal contacts",
        "conversion_rate": "conversion rate",
        "complaints": "complaints",
        "rich_answer_share": "share of responses to pictures and pages",
        "open_share_weekend": "opens at weekends",
        "visit_share_weekend": "visits at weekends",
        "days_since_consent": "days since the last consent",
    },
    feature_window="{name} in {days} days",
    feature_channel="{name} ({channel})",
)

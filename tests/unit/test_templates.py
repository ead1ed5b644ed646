"""Personal words: what a template may say, what it may not, and where its values end up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind
from models.domain.errors import InvalidInputError
from models.domain.experiment import Experiment
from serving.content import ContentTooLongError, Person, personal, targets
from serving.templates import check_templates, localised, render, values_for

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
TEXT, HTML, CARD, TEMPLATE = ContentKind.TEXT, ContentKind.HTML, ContentKind.CARD, ContentKind.TEMPLATE


def campaign(kind: ContentKind, body: str, **content: object) -> Campaign:
    return Campaign(
        campaign_id="spring",
        send_window=SendWindow(starts_at=NOW, ends_at=NOW + timedelta(days=1)),
        slots=(time(9),),
        offers=(Offer(offer_id="coats", margin_minor=1.0, content={kind: Content(body=body, **content)}),),
        channels=("email", "sms"),
        experiment=Experiment(experiment_id="spring"),
        conversion_value_minor=1.0,
        fields={"first_name": "friend", "points": "no"},
    )


def said(kind: ContentKind, body: str, **attributes: float | str) -> str:
    made = campaign(kind, body)
    check_templates(made)
    return render(
        kind, made.offers[0].content[kind], values_for(made.fields, attributes, {"channel": "sms"})
    ).body


def test_fields_are_filled_and_unknown_attributes_get_their_fallback():
    words = "Dear {{ first_name }}, you have {{ points }} points ({{ channel }})"
    assert said(TEXT, words, first_name="Ada", points=120.0) == "Dear Ada, you have 120 points (sms)"
    assert said(TEXT, words) == "Dear friend, you have no points (sms)"
    assert said(TEXT, "{% if points == '120' %}Rich{% else %}Poor{% endif %}", points=120.0) == "Rich"
    assert said(TEXT, "{{ first_name|upper }}", first_name="ada") == "ADA"


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '" onmouseover="x', "A & B", "{{ points }}"])
def test_values_are_escaped_in_html_and_never_templates_themselves(name):
    made = said(HTML, '<p title="{{ first_name }}">{{ first_name }}</p>', first_name=name)
    assert "<script>" not in made
    assert '" onmouseover' not in made
    assert said(TEXT, "{{ first_name }}", first_name=name) == name


@pytest.mark.parametrize(
    "name", ["see http://evil.example", "www.evil.example", "a\r\nBcc: x", "x" * 201, "a\x00b"]
)
def test_a_value_with_an_address_a_line_break_or_no_end_is_not_used(name):
    assert said(TEXT, "Dear {{ first_name }}", first_name=name) == "Dear friend"


def test_in_json_a_value_stays_inside_its_string():
    body = json.dumps({"line": {"text": "Hi {{ first_name }}", "n": 1, "{{ first_name }}": ["{{ points }}"]}})
    made = json.loads(said(CARD, body, first_name='"}, "evil": {"', points=3.0))
    assert made == {"line": {"text": 'Hi "}, "evil": {"', "n": 1, "{{ first_name }}": ["3"]}}


def test_the_numbered_placeholders_of_a_provider_are_left_to_it():
    assert said(TEMPLATE, "Hello {{1}}, {{ first_name }}", first_name="Ada") == "Hello {{1}}, Ada"


@pytest.mark.parametrize(
    "body",
    [
        "{{ first_name.__class__.__mro__ }}",
        "{{ first_name['__class__'] }}",
        "{{ ''.__class__ }}",
        "{{ self }}",
        "{{ range(10) }}",
        "{{ first_name() }}",
        "{% for x in first_name %}{{ x }}{% endfor %}",
        "{% set x = 1 %}",
        "{% include 'x' %}",
        "{% import 'os' as os %}",
        "{% macro m() %}{% endmacro %}",
        "{{ first_name|attr('__class__') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 'a' * 1000000000 }}",
        "{{ first_name",
        "https://shop.example/{{ first_name }}",
    ],
)
def test_whatever_reaches_beyond_plain_words_is_refused_when_the_campaign_is_stored(body):
    with pytest.raises(InvalidInputError) as caught:
        check_templates(campaign(TEXT, body))
    assert caught.value.field == "offers.coats.content.text.body"


@pytest.mark.parametrize(
    "body",
    [
        "<a href='{{ first_name }}'>x</a>",
        "<p title={{ first_name }}>x</p>",
        "<script>var x = '{{ first_name }}'</script>",
        "<{{ first_name }}>",
    ],
)
def test_fields_in_dangerous_places_of_html_are_refused(body):
    with pytest.raises(InvalidInputError):
        check_templates(campaign(HTML, body))


def test_an_unknown_field_is_named_with_those_that_there_are():
    with pytest.raises(InvalidInputError) as caught:
        check_templates(campaign(TEXT, "x", subject="Hi {{ frist_name }}"))
    assert (caught.value.field, caught.value.value) == ("offers.coats.content.text.subject", "frist_name")
    assert "first_name" in caught.value.bound


def test_the_language_is_the_nearest_there_is():
    content = Content(
        body="Hello", locales={"zh-Hant": Content(body="您好"), "ja": Content(body="こんにちは")}
    )
    spoken = {
        name: localised(content, name).body for name in ("zh-Hant-TW", "zh_hant", "zh", "ja-JP", "fr", "")
    }
    assert spoken == {
        "zh-Hant-TW": "您好",
        "zh_hant": "您好",
        "zh": "Hello",
        "ja-JP": "こんにちは",
        "fr": "Hello",
        "": "Hello",
    }


def test_the_length_counts_after_links_and_words_are_in():
    body = "Buy {{ first_name }} " + "x" * 1_480 + " https://s.example"
    made = campaign(TEXT, body)
    content = made.offers[0].content[TEXT]

    def make(name: str, link: str) -> Content:
        person = Person("c1", {"first_name": name})
        return personal(made, CHANNELS["sms"], "coats", TEXT, content, person, lambda _: link)

    assert len(make("Ada", "https://n.example/" + "t" * 60).body) < 1_600
    for name, link in (("A" * 150, "https://n.example/"), ("Ada", "https://n.example/" + "t" * 150)):
        with pytest.raises(ContentTooLongError):
            make(name, link)


def test_a_link_has_the_same_number_in_every_language():
    german = Content(body="Hier https://s.example/de und https://s.example/both")
    whole = Content(body="Here https://s.example/both", locales={"de": german})
    assert targets(TEXT, whole) == ("https://s.example/both", "https://s.example/de")
    made = replace(campaign(TEXT, "x"), fields={})
    numbers: list[int] = []

    def click(number: int) -> str:
        numbers.append(number)
        return f"https://t.example/{number}"

    personal(made, CHANNELS["sms"], "coats", TEXT, whole, Person("c1", {"locale": "de-AT"}), click)
    assert numbers == [1, 0]

"""Links of a content: their numbers, and what replaces them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.content import targets, with_tracked_links

HTML, TEXT = ContentKind.HTML, ContentKind.TEXT


def click(number: int) -> str:
    return f"https://t.example/c/{number}"


def test_the_link_of_the_offer_comes_first_and_repeats_share_a_number():
    content = Content(
        body="See https://a.example/x, or (https://b.example/y). Again: https://a.example/x!",
        link_url="https://b.example/y",
    )
    assert targets(TEXT, content) == ("https://b.example/y", "https://a.example/x")
    tracked = with_tracked_links(TEXT, content, click)
    assert tracked.link_url == click(0)
    assert tracked.body == f"See {click(1)}, or ({click(0)}). Again: {click(1)}!"


def test_in_html_only_the_addresses_of_links_are_replaced():
    body = (
        '<link href="https://a.example/style.css"><img src="https://a.example/pic.png">'
        '<A class="x" HREF=\'https://a.example/?p=1&amp;q=2\'>https://a.example/</A><a href="#top">top</a>'
    )
    assert targets(HTML, Content(body=body)) == ("https://a.example/?p=1&q=2",)
    tracked = with_tracked_links(HTML, Content(body=body), click).body
    assert tracked == body.replace("https://a.example/?p=1&amp;q=2", click(0))


def test_only_web_addresses_become_targets():
    body = '<a href="javascript:alert(1)">a</a><a href="mailto:a@example.com">b</a><a href="tel:1">c</a>'
    content = Content(body=body, link_url="javascript:alert(1)")
    assert targets(HTML, content) == ()
    assert with_tracked_links(HTML, content, click) == content


addresses = st.builds(
    "https://{}.example/{}".format, st.sampled_from("abcd"), st.sampled_from(["", "x", "x/y?z=1"])
)


@given(st.lists(addresses, max_size=12), st.sampled_from([TEXT, HTML]))
def test_every_replaced_link_leads_back_to_its_target(given_addresses, kind):
    form = '<a href="{}">x</a>' if kind is HTML else "go {} now"
    content = Content(body="\n".join(form.format(address) for address in given_addresses))
    listed = targets(kind, content)
    tracked = with_tracked_links(kind, content, click).body
    back = tracked
    for number in reversed(range(len(listed))):
        back = back.replace(click(number), listed[number])
    assert back == content.body
    assert len(listed) == len(set(given_addresses))


def test_in_a_json_template_what_can_be_followed_is_tracked_and_pictures_are_not():
    line = {
        "type": "buttons",
        "thumbnailImageUrl": "https://shop.example/t.jpg",
        "actions": [{"type": "uri", "label": "Buy", "uri": "https://shop.example/buy"}],
    }
    wechat = {"template_id": "T", "url": "https://shop.example/wechat"}
    body = json.dumps({"line": line, "wechat": wechat, "words": "see https://shop.example/words"})
    content = Content(body=body)
    found = targets(ContentKind.TEMPLATE, content)
    assert found == ("https://shop.example/buy", "https://shop.example/wechat")
    tracked = json.loads(
        with_tracked_links(ContentKind.TEMPLATE, content, lambda n: f"https://t.example/{n}").body
    )
    assert tracked["line"]["actions"][0]["uri"] == "https://t.example/0"
    assert tracked["line"]["thumbnailImageUrl"] == "https://shop.example/t.jpg"
    assert tracked["wechat"]["url"] == "https://t.example/1"

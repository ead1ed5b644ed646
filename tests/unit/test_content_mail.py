"""One mail as bytes, read back by the standard library's parser."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

from hypothesis import example, given
from hypothesis import strategies as st

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.channels.mime import Mailbox, is_address, mail, one_line
from serving.channels.testing import ExampleLinks, example_message
from tests.mail_headers import HEADERS

SENDER = Mailbox("Bulb Shop", "offers@shop.example")
LINKS = ExampleLinks()


def parsed(kind: ContentKind = ContentKind.TEXT, **content: str):
    message = example_message(content_kind=kind, content=Content(**{"body": "", **content}))
    written = mail(message, SENDER, LINKS)
    return message, written, message_from_bytes(written, policy=default)


def bodies(read) -> tuple[str, str]:
    text, html = (read.get_body((kind,)).get_content().replace("\r\n", "\n") for kind in ("plain", "html"))
    return text, html


def test_a_mail_has_stable_headers_and_one_click_unsubscribe():
    message, written, read = parsed(subject="Spring is here", body="Ten tulips.")
    assert read["From"] == "Bulb Shop <offers@shop.example>"
    assert read["To"] == "ada@example.com"
    assert read["Subject"] == "Spring is here"
    assert read["Message-ID"] == f"<{message.message_id}@shop.example>"
    assert read["List-Unsubscribe"] == f"<https://links.example/u/{message.message_id}>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert written == mail(message, SENDER, LINKS)
    assert [part.get_content_type() for part in read.iter_parts()] == ["text/plain", "text/html"]


def test_text_becomes_html_with_pixel_links_and_nothing_unescaped():
    message, _, read = parsed(
        body="1 < 2 & <b>\n\nSee https://a.example/?x=1&y=2.", link_url="https://b.example/"
    )
    text, html = bodies(read)
    assert text.startswith("1 < 2 & <b>")
    assert "https://b.example/" in text
    assert "1 &lt; 2 &amp; &lt;b&gt;" in html
    assert '<a href="https://a.example/?x=1&amp;y=2">' in html
    assert f'<img src="{LINKS.pixel(message.message_id)}" width="1" height="1" alt="">' in html
    assert LINKS.unsubscribe(message.message_id) in text
    assert LINKS.unsubscribe(message.message_id) in html


def test_html_becomes_text_that_keeps_words_and_addresses():
    page = (
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Tulips &amp; more</h1>"
        '<p>Ten <b>red</b> ones: <a href="https://a.example/">buy</a></p><script>no()</script>'
        '<p>Code: <img src="https://a.example/code.png" alt="A-1 &amp; B"><img src="https://a.example/line.png" alt=""></p></body></html>'
    )
    message, _, read = parsed(ContentKind.HTML, body=page)
    text, html = bodies(read)
    assert text.startswith("Tulips & more\n\nTen red ones: buy (https://a.example/)\n\nCode: A-1 & B\n")
    assert "no" not in text.partition("Unsubscribe")[0]
    assert html.rstrip().endswith("</body></html>")
    assert html.index(LINKS.pixel(message.message_id)) < html.index("</body>")


def test_an_image_is_shown_and_leads_to_the_link():
    _, _, read = parsed(
        ContentKind.IMAGE,
        subject='A "tulip"',
        media_url="https://a.example/t.png",
        link_url="https://a.example/",
    )
    _, html = bodies(read)
    assert (
        '<a href="https://a.example/"><p><img src="https://a.example/t.png" alt="A &quot;tulip&quot;"></p></a>'
        in html
    )


@given(st.text(max_size=400))
@example("Frühling 🌷 " * 60)
@example("a" * 3000)
@example("=?utf-8?q?a?= means a")
@example("Hi\r\nBcc: evil@example.com\r\n\r\n<p>injected")
def test_any_subject_comes_back_as_one_line(subject):
    _, written, read = parsed(subject=subject)
    assert read["Subject"] == one_line(subject)
    assert read["Bcc"] is None
    assert sorted(read.keys()) == sorted(HEADERS)
    assert all(len(line) <= 998 for line in written.split(b"\r\n"))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=500))
@example("=_00000000 --=_x")
@example(".\n.\n..")
@example("From here\n" + "x" * 2000 + " \n\ttab ")
def test_any_body_survives_the_wire(body):
    _, written, read = parsed(body=f"<{body}>")
    text = bodies(read)[0]
    assert text.startswith(f"<{body}>")
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in written.split(b"\r\n"))
    assert written.isascii()


def test_addresses_are_ascii_dot_atoms():
    for good in ("ada@example.com", "a.b+c@x-y.example", "o'hara@example.com"):
        assert is_address(good), good
    for bad in (
        "",
        "ada",
        "ada@",
        "@example.com",
        "a b@example.com",
        "a@example.com\n",
        "a@example.com>",
        ".a@example.com",
        "a..b@example.com",
        "a@-example.com",
        "ä@example.com",
        '"a"@example.com',
        "a@" + "x" * 260,
    ):
        assert not is_address(bad), bad

"""The two bodies of a mail: plain text and HTML, each made from the other where an offer has only one."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.channels.web_address import WEB_ADDRESS

_BLOCKS = frozenset({"address", "br", "div", "h1", "h2", "h3", "h4", "hr", "li", "p", "table", "tr", "ul"})
_SILENT = frozenset({"head", "script", "style", "title"})
_END_OF_BODY = re.compile(r"</body\s*>", re.IGNORECASE)
_PAGE = '<!doctype html><html><head><meta charset="utf-8"></head><body>{}</body></html>'


def plain_text(content_kind: ContentKind, content: Content, unsubscribe: str) -> str:
    """The text body: the words, the link, the way out."""
    parts = [_TextOf.html(content.body) if content_kind is ContentKind.HTML else content.body.strip()]
    if content_kind is ContentKind.IMAGE and content.media_url:
        parts.append(content.media_url)
    if content.link_url and content.link_url not in parts[0]:
        parts.append(content.link_url)
    parts.append(f"Unsubscribe: {unsubscribe}")
    return "\n\n".join(parts) + "\n"


def html_page(content_kind: ContentKind, content: Content, unsubscribe: str, pixel: str) -> str:
    """The HTML body, with the way out and the open pixel at its end."""
    page = content.body if content_kind is ContentKind.HTML else _PAGE.format(_paragraphs(content))
    if content_kind is ContentKind.IMAGE and content.media_url:
        picture = f'<p><img src="{escape(content.media_url)}" alt="{escape(content.subject)}"></p>'
        page = page.replace("<body>", f"<body>{_linked(picture, content.link_url)}", 1)
    end = ""
    if content.link_url and escape(content.link_url) not in page:
        end += f"<p>{_linked(escape(content.link_url), content.link_url)}</p>"
    end += f'<p><small><a href="{escape(unsubscribe)}">Unsubscribe</a></small></p>'
    end += f'<img src="{escape(pixel)}" width="1" height="1" alt="">'
    closing = _END_OF_BODY.search(page)
    return page + end if closing is None else page[: closing.start()] + end + page[closing.start() :]


def _paragraphs(content: Content) -> str:
    text = escape(content.body.strip())
    text = WEB_ADDRESS.sub(lambda found: f'<a href="{found[0]}">{found[0]}</a>', text)
    return "".join(f"<p>{part}</p>" for part in re.split(r"\n\s*\n", text)).replace("\n", "<br>")


def _linked(html: str, address: str | None) -> str:
    return f'<a href="{escape(address)}">{html}</a>' if address else html


class _TextOf(HTMLParser):
    """Reads the words out of HTML; the address of a link follows its words, and of a picture its `alt` is left."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._words: list[str] = []
        self._silent = 0
        self._address: str | None = None

    @classmethod
    def html(cls, page: str) -> str:
        reader = cls()
        reader.feed(page)
        reader.close()
        lines = (" ".join(line.split()) for line in "".join(reader._words).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self._words.append("\n")
        elif tag == "a":
            self._address = dict(attrs).get("href")
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "a" and self._address:
            self._words.append(f" ({self._address})")
            self._address = None
        elif tag in _BLOCKS:
            self._words.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._words.append(re.sub(r"\s+", " ", data))

"""`/r/{token}`: the customer's page of what a message gave, and `/r/{token}/code.png`, its code as a picture for a mail.

Opening them changes nothing; the form of the page redeems.

It needs no key: whoever holds the message holds the token. A forged token gets 404 and leaves no trace.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Connection, select

from features.history.engine import read_only
from features.history.tables import customers, redemptions
from models.domain.customer import zone
from models.domain.errors import InvalidInputError, NotFoundError
from serving.content import LOCALE
from serving.dashboard.forms import form_fields
from serving.dashboard.pages import page_environment
from serving.explain.catalogue import Language
from serving.incentives.distance import Position
from serving.incentives.incentive import IncentiveKind, Question, QuestionKind, Survey, said
from serving.incentives.lottery import commitment
from serving.incentives.pictures import as_png, as_svg, cross_png, tick_png
from serving.incentives.redeem import Asked, redeem
from serving.incentives.standing import NotRedeemableError, VoucherStanding, Whereabouts, standing_of
from serving.incentives.store import Stored, load_incentive
from serving.incentives.survey import LONGEST_ANSWER, Answer
from serving.incentives.vouchers import Voucher, find_voucher
from serving.incentives.words import WORDS, language_of
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.tracking import Signer, TokenKind, find_message

SOURCE = "page"
# Thirty questions of twenty options, or of text.
_MOST_FIELDS = 700
_MOST_BYTES = 700_000
# Browsers that make pages dark by themselves leave this one, and its code, as they are.
_STYLE = """:root{color-scheme:only light}svg{display:block;max-width:100%;height:auto}
body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:0 auto;padding:1rem;color:#1c1c1c;background:#fff}
nav{text-align:right;font-size:.9rem}a{color:#0b5cad}
.large{font-size:2rem;font-weight:700;margin:.3rem 0;overflow-wrap:anywhere}.code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}
.quiet{color:#555;font-size:.9rem}.problem{border-left:.3rem solid #b3261e;padding-left:.7rem}
fieldset{border:1px solid #bbb;border-radius:.4rem;margin:1rem 0;padding:.7rem}
label{display:block;padding:.4rem 0}textarea{width:100%;box-sizing:border-box;font:inherit}
button{font:inherit;width:100%;padding:.8rem;border:0;border-radius:.4rem;background:#0b5cad;color:#fff}"""
_SCRIPT = """document.getElementById("near").addEventListener("submit",function(event){
var form=this;if(form.latitude.value){return}event.preventDefault();
navigator.geolocation.getCurrentPosition(function(found){form.latitude.value=found.coords.latitude;
form.longitude.value=found.coords.longitude;form.submit()},function(){form.submit()})})"""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_HEADERS = {
    "Cache-Control": "no-store, max-age=0",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src 'sha256-{_digest(_SCRIPT)}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}

# What a till takes, or will take later or elsewhere.
_SHOWN_TO_TILLS = frozenset({VoucherStanding.VALID, VoucherStanding.TOO_EARLY, VoucherStanding.TOO_FAR})

Asking = Annotated[Language | None, Query(alias="language")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a token leads to."""

    voucher: Voucher
    stored: Stored
    language: Language
    time_zone: str


def redeem_pages(service: Service) -> APIRouter:
    """The page of a voucher."""
    router = APIRouter(include_in_schema=False)
    signer = Signer(service.tracking_secret)
    template = page_environment(service.currency).get_template("redeem.html")

    def find(conn: Connection, text: str, asked_for: Language | None) -> _Found:
        token = signer.read(text, TokenKind.REDEEM)
        message = None if token is None else find_message(conn, token.message_id)
        if message is None:
            raise _not_found()
        try:
            voucher = find_voucher(conn, message.decision_id)
        except NotFoundError:
            raise _not_found() from None
        person = conn.execute(
            select(customers.c.attributes, customers.c.time_zone).where(
                customers.c.customer_id == voucher.customer_id
            )
        ).one_or_none()
        locale = "" if person is None else str(person.attributes.get(LOCALE, ""))
        return _Found(
            voucher=voucher,
            stored=load_incentive(conn, voucher.campaign_id, voucher.offer_id, voucher.version),
            language=asked_for or language_of(locale),
            time_zone="UTC" if person is None else person.time_zone,
        )

    def page(
        conn: Connection,
        found: _Found,
        *,
        problem: str = "",
        form: Mapping[str, str] | None = None,
        status_code: int = 200,
    ) -> HTMLResponse:
        values = _values(conn, found, service.clock())
        values |= {"problem": problem or values["problem"], "form": form or {}}
        return HTMLResponse(template.render(values), status_code=status_code, headers=_HEADERS)

    @router.get("/r/{text}")
    async def show(text: str, language: Asking = None) -> Response:
        def make() -> Response:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return page(conn, find(conn, text, language))

        return await service.in_thread(make)

    @router.get("/r/{text}/code.png")
    async def picture(text: str) -> Response:
        def make() -> Response:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                found = find(conn, text, None)
                standing = _standing(conn, found, service.clock())
            drawn = found.stored.incentive.picture
            if drawn is None:
                raise _not_found()
            if standing is VoucherStanding.USED:
                png = tick_png()
            else:
                png = as_png(drawn, found.voucher.code) if standing in _SHOWN_TO_TILLS else cross_png()
            return Response(png, media_type="image/png", headers=_HEADERS)

        return await service.in_thread(make)

    @router.post("/r/{text}")
    async def submit(request: Request, text: str, language: Asking = None) -> Response:
        form = await form_fields(request, _MOST_BYTES, _MOST_FIELDS)
        now = service.clock()

        def make() -> tuple[Response, str | None]:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                found = find(conn, text, language)
                incentive, words = found.stored.incentive, WORDS[found.language]
                if incentive.kind is IncentiveKind.COUPON:  # a till redeems it
                    return page(conn, found), None
            asked = Asked(
                source=SOURCE,
                event_id=found.voucher.decision_id,
                occurred_at=now,
                whereabouts=Whereabouts(position=_position(form)),
                answers={} if incentive.survey is None else _answers(incentive.survey, form),
            )
            problem, status_code = "", 303
            try:
                with reaching_the_store(), service.engine.begin() as conn:
                    redeem(conn, found.voucher, asked, now)
            except NotRedeemableError as exc:
                problem, status_code = words.standing[exc.standing], 409
            except InvalidInputError as exc:
                question = _question(incentive.survey, exc.field)
                problem, status_code = words.wrong.format(question=said(question.text, found.language)), 422
            if not problem:
                where = f"/r/{text}" + (f"?language={language}" if language else "")
                return RedirectResponse(where, 303, _HEADERS), found.voucher.customer_id
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return page(conn, found, problem=problem, form=form, status_code=status_code), None

        answer, customer_id = await service.in_thread(make)
        if customer_id is not None:
            service.refresher.request([customer_id])
        return answer

    return router


def _values(conn: Connection, found: _Found, now: datetime) -> dict[str, Any]:
    """What the template says."""
    voucher, incentive, language = found.voucher, found.stored.incentive, found.language
    words, points, lottery = WORDS[language], incentive.points, incentive.lottery
    redeemed = conn.execute(
        select(redemptions.c.occurred_at, redemptions.c.prize).where(
            redemptions.c.decision_id == voucher.decision_id
        )
    ).one_or_none()
    standing = _standing(conn, found, now)
    far = standing is VoucherStanding.TOO_FAR
    titles = {prize.prize_id: said(prize.title, language) for prize in (lottery.prizes if lottery else ())}
    opens_at, lapses_at = incentive.opens_at(voucher.given_at), incentive.lapses_at(voucher.given_at)

    def local(moment: datetime) -> str:
        return f"{moment.astimezone(zone(found.time_zone)):%Y-%m-%d %H:%M}"

    return {
        "language": language,
        "languages": [(each, one.own_name) for each, one in WORDS.items()],
        "words": words,
        "heading": said(incentive.title, language),
        "kind": incentive.kind,
        "code": voucher.code,
        "picture": ""
        if incentive.picture is None or standing not in _SHOWN_TO_TILLS
        else as_svg(incentive.picture, voucher.code, words.picture.format(code=voucher.code)),
        "opens": local(opens_at) if opens_at > now else "",
        "lapses": "" if lapses_at is None else local(lapses_at),
        "points": 0 if points is None else points.points,
        "near": points is not None and bool(points.shops),
        "opened": far or standing is VoucherStanding.VALID,
        "problem": "" if far else words.standing[standing],
        "redeemed": "" if redeemed is None else local(redeemed.occurred_at),
        "prize": "" if redeemed is None or redeemed.prize is None else titles[redeemed.prize],
        "published": "" if found.stored.secret is None else commitment(found.stored.secret),
        "questions": []
        if incentive.survey is None
        else [_asked(one, language) for one in incentive.survey.questions],
        "longest_answer": LONGEST_ANSWER,
        "style": _STYLE,
        "script": _SCRIPT,
    }


def _standing(conn: Connection, found: _Found, now: datetime) -> VoucherStanding:
    """As far as is known without knowing where the customer is."""
    return standing_of(conn, found.voucher, found.stored.incentive, now, Whereabouts())


def _asked(question: Question, language: Language) -> dict[str, Any]:
    options = [{"id": option.option_id, "text": said(option.text, language)} for option in question.options]
    if question.kind is QuestionKind.SCALE:
        options = [{"id": str(n), "text": str(n)} for n in range(question.least, question.most + 1)]
    return {
        "id": question.question_id,
        "kind": question.kind,
        "text": said(question.text, language),
        "required": question.required,
        "options": options,
    }


def _answers(survey: Survey, form: Mapping[str, str]) -> dict[str, Answer]:
    """The fields of the form as answers."""
    answers: dict[str, Answer] = {}
    for question in survey.questions:
        name = f"q.{question.question_id}"
        text = form.get(name, "").strip()
        match question.kind:
            case QuestionKind.SEVERAL:
                answers[question.question_id] = [
                    option.option_id for option in question.options if form.get(f"{name}.{option.option_id}")
                ]
            case QuestionKind.SCALE if text.isascii() and text.isdigit() and len(text) < 4:
                answers[question.question_id] = int(text)
            case _:
                answers[question.question_id] = text
    return answers


def _question(survey: Survey | None, field: str) -> Question:
    """The question that an error names."""
    questions = () if survey is None else survey.questions
    return next(one for one in questions if field == f"answers.{one.question_id}")


def _position(form: Mapping[str, str]) -> Position | None:
    """Where the browser says that it is; None where it does not, or says nonsense."""
    try:
        return Position(latitude=float(form["latitude"]), longitude=float(form["longitude"]))
    except (KeyError, ValueError, InvalidInputError):
        return None


def _not_found() -> HTTPException:
    return HTTPException(status_code=404, detail="There is no such address.")

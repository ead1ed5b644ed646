"""What the customer's page says, in every language."""
# ruff: noqa: RUF001 - full-width punctuation is the languages' own

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serving.explain.catalogue import Language
from serving.incentives.standing import VoucherStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of one language; `{...}` is filled in.

    Attributes:
        standing: What is said in the place of a form that would not redeem; nothing where it would.
    """

    own_name: str
    code: str
    say_code: str
    picture: str
    opens: str
    lapses: str
    points: str
    redeem: str
    needs_place: str
    draw: str
    published: str
    won: str
    lost: str
    send: str
    optional: str
    wrong: str
    thanks: str
    redeemed: str
    standing: Mapping[VoucherStanding, str]


WORDS: Mapping[Language, Words] = MappingProxyType(
    {
        Language.ENGLISH: Words(
            own_name="English",
            code="Your code",
            say_code="In the shop, or when you order, give this code:",
            picture="Code {code}, for a scanner",
            opens="From {moment}",
            lapses="Until {moment}",
            points="{n} points",
            redeem="Redeem now",
            needs_place="This can be redeemed near one of our shops. Your browser asks for your location; we keep only how far it is.",
            draw="Try your luck",
            published="Digest of the draw's secret, published beforehand:",
            won="You have won:",
            lost="No prize this time. Thank you for taking part.",
            send="Send answers",
            optional="optional",
            wrong="Please look at this answer again: {question}",
            thanks="Thank you for your answers.",
            redeemed="Redeemed on {moment}.",
            standing={
                VoucherStanding.VALID: "",
                VoucherStanding.USED: "This was redeemed already.",
                VoucherStanding.TOO_EARLY: "It cannot be redeemed yet.",
                VoucherStanding.EXPIRED: "It has expired.",
                VoucherStanding.TOO_FAR: "You are too far from our shops.",
                VoucherStanding.LIMIT_REACHED: "It has been redeemed as often as it can be.",
            },
        ),
        Language.CHINESE: Words(
            own_name="繁體中文",
            code="您的代碼",
            say_code="在門市或下單時，請出示此代碼：",
            picture="代碼 {code}，供掃描",
            opens="自 {moment} 起",
            lapses="至 {moment} 止",
            points="{n} 點",
            redeem="立即兌換",
            needs_place="請在我們的門市附近兌換。瀏覽器會詢問您的位置；我們只保留距離。",
            draw="試試手氣",
            published="事先公布的抽獎密鑰摘要：",
            won="恭喜您獲得：",
            lost="這次沒有中獎。感謝您的參與。",
            send="送出答案",
            optional="選填",
            wrong="請再確認這個答案：{question}",
            thanks="感謝您的回答。",
            redeemed="已於 {moment} 兌換。",
            standing={
                VoucherStanding.VALID: "",
                VoucherStanding.USED: "已經兌換過了。",
                VoucherStanding.TOO_EARLY: "尚未開放兌換。",
                VoucherStanding.EXPIRED: "已過期。",
                VoucherStanding.TOO_FAR: "您離我們的門市太遠。",
                VoucherStanding.LIMIT_REACHED: "兌換次數已達上限。",
            },
        ),
        Language.JAPANESE: Words(
            own_name="日本語",
            code="あなたのコード",
            say_code="店舗またはご注文の際に、このコードをお伝えください：",
            picture="読み取り用コード {code}",
            opens="{moment} から",
            lapses="{moment} まで",
            points="{n} ポイント",
            redeem="今すぐ引き換える",
            needs_place="店舗の近くで引き換えられます。ブラウザーが位置情報の許可を求めますが、保存するのは距離だけです。",
            draw="くじを引く",
            published="事前に公開された抽選の秘密のダイジェスト：",
            won="当選：",
            lost="今回ははずれでした。ご参加ありがとうございました。",
            send="回答を送る",
            optional="任意",
            wrong="この回答をもう一度ご確認ください：{question}",
            thanks="ご回答ありがとうございました。",
            redeemed="{moment} に引き換え済みです。",
            standing={
                VoucherStanding.VALID: "",
                VoucherStanding.USED: "すでに引き換え済みです。",
                VoucherStanding.TOO_EARLY: "まだ引き換えられません。",
                VoucherStanding.EXPIRED: "有効期限が切れています。",
                VoucherStanding.TOO_FAR: "店舗から離れすぎています。",
                VoucherStanding.LIMIT_REACHED: "引き換えの上限に達しました。",
            },
        ),
    }
)


def language_of(locale: str) -> Language:
    """The page's language for a customer's locale; English where it is none of the others."""
    plain = locale.lower()
    if plain.startswith("zh"):
        return Language.CHINESE
    return Language.JAPANESE if plain.startswith("ja") else Language.ENGLISH

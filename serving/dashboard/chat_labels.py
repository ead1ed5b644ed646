"""What the pages of chats call their parts, in every language."""
# ruff: noqa: RUF001 - full-width punctuation is the languages' own

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serving.explain.catalogue import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLabels:
    """The labels of one language; `{n}` is a count, `{who}` a name.

    Attributes:
        statuses: Where a line stands, by its status; none where nothing need be said.
        reasons: Why a line was not sent, by its detail; others are the provider's words.
    """

    language: str
    chats: str
    chat_with: str
    waiting: str
    nobody_waits: str
    agent: str
    your_name: str
    that_is_me: str
    customer: str
    channel: str
    heard: str
    waits_since: str
    held_by: str
    is_held_by: str
    is_open: str
    not_due: str
    automatic: str
    said: str
    rules: str
    version: str
    nothing_said: str
    take: str
    answer: str
    your_answer: str
    send: str
    end: str
    out_of_window: str
    history: str
    statuses: Mapping[str, str]
    reasons: Mapping[str, str]


CHAT_LABELS: Mapping[Language, ChatLabels] = MappingProxyType(
    {
        Language.ENGLISH: ChatLabels(
            language="Language",
            chats="Chats",
            chat_with="Chat with {who}",
            waiting="{n} to answer now",
            nobody_waits="Nobody waits for an answer",
            agent="Agent",
            your_name="Your name",
            that_is_me="That is me",
            customer="Customer",
            channel="Channel",
            heard="Last word",
            waits_since="Waits since",
            held_by="Held by",
            is_held_by="Held by {who}",
            is_open="Waits for a person",
            not_due="Waits for the office to open",
            automatic="Answered automatically",
            said="What was said",
            rules="automatic",
            version="version",
            nothing_said="Nothing was said yet.",
            take="Take this chat",
            answer="Answer",
            your_answer="Your answer",
            send="Send",
            end="End the chat",
            out_of_window="The provider takes no text so long after the customer's last word.",
            history="History of the customer",
            statuses={
                "pending": "on its way",
                "claimed": "on its way",
                "sent": "sent",
                "failed": "not sent",
                "suppressed": "not sent",
                "unknown": "perhaps not sent",
            },
            reasons={
                "provider_window": "too long after the customer's last word",
                "expired": "too late",
                "no_identity": "the customer has no account here any more",
                "channel_gone": "the channel is gone",
            },
        ),
        Language.CHINESE: ChatLabels(
            language="語言",
            chats="對話",
            chat_with="與 {who} 的對話",
            waiting="{n} 則待回覆",
            nobody_waits="目前沒有人等待回覆",
            agent="客服人員",
            your_name="您的姓名",
            that_is_me="這是我",
            customer="顧客",
            channel="管道",
            heard="最後發言",
            waits_since="等待起始",
            held_by="處理人",
            is_held_by="由 {who} 處理中",
            is_open="等待客服人員",
            not_due="等待服務時間開始",
            automatic="自動回覆中",
            said="對話內容",
            rules="自動",
            version="版本",
            nothing_said="尚無對話。",
            take="接手這則對話",
            answer="回覆",
            your_answer="您的回覆",
            send="送出",
            end="結束對話",
            out_of_window="距離顧客最後發言太久，平台已不接受文字訊息。",
            history="顧客紀錄",
            statuses={
                "pending": "傳送中",
                "claimed": "傳送中",
                "sent": "已送出",
                "failed": "未送出",
                "suppressed": "未送出",
                "unknown": "可能未送出",
            },
            reasons={
                "provider_window": "距離顧客最後發言太久",
                "expired": "已逾時",
                "no_identity": "顧客在此已無帳號",
                "channel_gone": "管道已不存在",
            },
        ),
        Language.JAPANESE: ChatLabels(
            language="言語",
            chats="チャット",
            chat_with="{who} とのチャット",
            waiting="未対応 {n} 件",
            nobody_waits="対応待ちのチャットはありません",
            agent="担当者",
            your_name="お名前",
            that_is_me="この名前で始める",
            customer="顧客",
            channel="チャネル",
            heard="最後の発言",
            waits_since="待ち始め",
            held_by="担当",
            is_held_by="{who} が対応中",
            is_open="担当者を待っています",
            not_due="営業時間の開始を待っています",
            automatic="自動応答中",
            said="会話",
            rules="自動",
            version="版",
            nothing_said="まだ会話はありません。",
            take="このチャットを担当する",
            answer="返信",
            your_answer="返信内容",
            send="送信",
            end="チャットを終える",
            out_of_window="顧客の最後の発言から時間が経ちすぎたため、テキストを送れません。",
            history="顧客の履歴",
            statuses={
                "pending": "送信中",
                "claimed": "送信中",
                "sent": "送信済み",
                "failed": "未送信",
                "suppressed": "未送信",
                "unknown": "未送信の可能性あり",
            },
            reasons={
                "provider_window": "顧客の最後の発言から時間が経ちすぎました",
                "expired": "期限切れ",
                "no_identity": "顧客のアカウントがありません",
                "channel_gone": "チャネルがありません",
            },
        ),
    }
)

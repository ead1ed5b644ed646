"""Japanese."""
# ruff: noqa: RUF001 - full-width punctuation is the language's own

from __future__ import annotations

from models.domain.action import ReasonCode
from models.domain.campaign import PolicyName
from models.explanation.flips import FlipKind
from serving.explain.catalogue import Absence, Catalogue, Language

JAPANESE = Catalogue(
    language=Language.JAPANESE,
    own_name="日本語",
    weekdays=("月", "火", "水", "木", "金", "土", "日"),
    months=tuple(f"{number}月" for number in range(1, 13)),
    moment="{month}{day}日（{weekday}）{clock}",
    between="、",
    clauses="、",
    together="、さらに",
    action="{at}の{channel}「{offer}」",
    no_contact="配信なし",
    contact="{action}を送ります。{why}{runner_up}。",
    why_best="配信しない場合より{value}多い利益が見込まれ、{n}件の候補の中で最も高い値です",
    why_learning=(
        "配信しない場合と比べた期待純利益は{value}で、学習を続けるために確率{propensity}で選ばれました"
    ),
    why_rule="ルール「{policy}」が{n}件の候補の中で最優先としました",
    why_drawn="ルール「{policy}」が{n}件の候補から確率{propensity}で選びました",
    runner_up="。次点は{action}で、期待純利益は{value}です",
    runner_up_rule="。次点は{action}です",
    holdout=(
        "配信なし：このお客様はホールドアウト群に属しています。配信の効果を正しく測るため、この群には一切配信しません。"
    ),
    nothing_left="配信なし：利用できるチャネルがありません。理由：{reasons}。",
    silence_best="配信なし：最良の代替案は{action}ですが、配信しない場合と比べた期待純利益は{value}です。",
    silence_drawn="配信なし：学習を続けるために確率{propensity}で選ばれました{runner_up}。",
    silence_rule="配信なし：ルール「{policy}」が確率{propensity}で選びました。",
    contest_won="{n} 件のキャンペーンのメッセージの中から選ばれました。",
    contest_lost="配信なし：同時に問い合わせたキャンペーン「{campaign}」のメッセージが届きます。",
    reason="{words}（{where}）",
    alternative="{rank}. {action}：配信しない場合と比べた期待純利益は{value}、選択確率は{propensity}。",
    alternative_rule="{rank}. {action}：選択確率は{propensity}。",
    excluded="{place}：{words}。",
    everywhere="すべてのチャネル",
    slot="{clock}の時間帯",
    p_open=(
        "このメッセージの開封確率は{total}です。同じチャネル・同じ時間帯の平均的なお客様では{base}です。"
        "差の主な要因：{parts}。"
    ),
    uplift=(
        "この配信による成約確率の変化は{total}ポイントです。平均的なお客様では{base}ポイントです。差の主な要因：{parts}。"
    ),
    part="{name}（{points}ポイント）",
    nobody="該当する特徴量なし",
    scarce=(
        "{channel}の送信枠には限りがあります：もう1通分の枠は他の人にとって{price}の価値があり、コストのほかにその分を差し引いています。"
    ),
    reasons={
        ReasonCode.NO_IDENTITY: "お客様のアカウントや連絡先がこのチャネルに登録されていません",
        ReasonCode.NO_CONSENT: "お客様はこの目的での配信にこのチャネルでは同意していません",
        ReasonCode.UNSUBSCRIBED: "お客様はこのチャネルの配信を停止しています",
        ReasonCode.COMPLAINED: "お客様からこのチャネルについて苦情がありました",
        ReasonCode.CONTENT_KIND_UNSUPPORTED: "このチャネルで配信できる形式のコンテンツがオファーにありません",
        ReasonCode.CONTENT_TOO_LONG: "オファーのコンテンツがこのチャネルの上限の長さを超えています",
        ReasonCode.REFUSED: "お客様はすべてのチャネルでの配信を断っています",
        ReasonCode.CHANNEL_PINNED: "キャンペーンは別のチャネルに固定されています",
        ReasonCode.CHANNEL_DOWN: "チャネルが停止中か、障害が発生しています",
        ReasonCode.QUIET_HOURS: "お客様への配信を控える時間帯に当たります",
        ReasonCode.OUTSIDE_SEND_WINDOW: "キャンペーンの配信期間外の時間帯です",
        ReasonCode.FREQUENCY_CAP: "お客様への配信回数が上限に達しています",
        ReasonCode.CAMPAIGN_CAP: "このキャンペーンでのお客様への配信回数が上限に達しています",
        ReasonCode.BUDGET_EXHAUSTED: "キャンペーンの予算を使い切りました",
        ReasonCode.CAPACITY_EXHAUSTED: "このチャネルの本日の配信枠を使い切りました",
        ReasonCode.PROVIDER_WINDOW: "プロバイダーが定める返信可能期間を過ぎています",
        ReasonCode.TOUCH_LEVEL: "このキャンペーンでは、このタッチレベルのチャネルを使いません",
        ReasonCode.COST_UNKNOWN: "このチャネルの1通あたりのコストが設定されていません",
        ReasonCode.CHANNEL_USED: "この一連のやり取りでは、このチャネルをすでに使っています",
        ReasonCode.OFFER_NOT_ASKED: "フォローアップの対象となるオファーではありません",
        ReasonCode.NOT_AT_ONCE: "フォローアップはすぐに送信されます",
    },
    flips={
        FlipKind.COST_BELOW: (
            "{channel}の1通あたりのコストが{threshold}を下回れば（現在{present}）、{winner}が最適になります。"
        ),
        FlipKind.COST_ABOVE: (
            "{channel}の1通あたりのコストが{threshold}を上回れば（現在{present}）、{winner}が最適になります。"
        ),
        FlipKind.MARGIN_BELOW: (
            "「{offer}」の成約1件あたりの利益が{threshold}を下回れば（現在{present}）、{winner}が最適になります。"
        ),
        FlipKind.MARGIN_ABOVE: (
            "「{offer}」の成約1件あたりの利益が{threshold}を上回れば（現在{present}）、{winner}が最適になります。"
        ),
        FlipKind.ALL_MARGINS_BELOW: (
            "成約1件あたりの利益がいずれも現在の{threshold}を下回れば、{winner}が最適になります。"
        ),
        FlipKind.NOT_BEFORE: "{threshold}より後にしか送れない場合は、{winner}が最適になります。",
        FlipKind.NOT_AFTER: "{threshold}より前に送らなければならない場合は、{winner}が最適になります。",
        FlipKind.OPENED: "{without}、{channel}のほうが{gain}多い利益を見込めます：{winner}。",
    },
    without={
        ReasonCode.NO_IDENTITY: "このチャネルのアカウントがあれば",
        ReasonCode.NO_CONSENT: "お客様の同意があれば",
        ReasonCode.PROVIDER_WINDOW: "お客様から先に連絡があれば",
        ReasonCode.CHANNEL_DOWN: "チャネルが復旧すれば",
        ReasonCode.CAPACITY_EXHAUSTED: "本日の配信枠に余りがあれば",
        ReasonCode.BUDGET_EXHAUSTED: "予算が残っていれば",
        ReasonCode.CHANNEL_PINNED: "チャネルの固定を解除すれば",
        ReasonCode.TOUCH_LEVEL: "このタッチレベルを許可すれば",
    },
    absences={
        Absence.HOLDOUT: "このお客様はホールドアウト群に属しており、価値の比較は行われていません。",
        Absence.RULE: "この決定を行ったルールは価値を比較しません。",
        Absence.NOT_RECORDED: "この決定には、必要な価値と価格が記録されていません。",
        Absence.MODEL_GONE: "この決定を行ったモデルのバージョン{version}は、もう読み込めません。",
        Absence.NOT_REPRODUCED: "モデルのバージョン{version}が現在算出する価値は、記録された値と異なります。",
        Absence.MODEL_SILENT: "モデルのバージョン{version}は、予測の内訳を示せません。",
        Absence.NO_CANDIDATE: "選べる配信がありませんでした。",
        Absence.CUSTOMER_GONE: "このお客様のデータは削除されています。",
    },
    channels={
        "email": "メール",
        "sms": "SMS",
        "line": "LINE",
        "push": "プッシュ通知",
        "web_push": "ウェブプッシュ",
        "whatsapp": "WhatsApp",
        "messenger": "Messenger",
        "instagram": "Instagram",
        "wechat": "WeChat",
        "call": "電話",
        "direct_mail": "ダイレクトメール",
        "webhook": "Webhook",
    },
    policies={
        PolicyName.BANDIT: "バンディット学習",
        PolicyName.GREEDY: "期待価値最大",
        PolicyName.UNIFORM: "均等ランダム",
        PolicyName.CHEAPEST_FIRST: "低コスト優先",
        PolicyName.PINNED: "チャネル固定",
        PolicyName.FIXED_TIME: "時間固定",
        "holdout": "ホールドアウト群",
    },
    features={
        "days_since_purchase": "前回購入からの日数",
        "days_since_visit": "前回訪問からの日数",
        "days_since_cart": "前回カート追加からの日数",
        "days_since_contact": "前回配信からの日数",
        "days_since_response": "前回反応からの日数",
        "days_since_conversion": "前回成約からの日数",
        "purchases": "購入回数",
        "spend": "購入金額",
        "mean_purchase": "平均購入額",
        "visits": "訪問回数",
        "carts": "カート追加回数",
        "carts_abandoned": "カート放棄回数",
        "conversions": "成約回数",
        "contacts": "接触回数",
        "sends": "配信回数",
        "opens": "開封回数",
        "clicks": "クリック回数",
        "open_rate": "開封率",
        "click_rate": "クリック率",
        "replies": "返信回数",
        "calls": "通話回数",
        "refusals": "拒否回数",
        "open_share_night": "深夜の開封割合",
        "open_share_morning": "午前の開封割合",
        "open_share_afternoon": "午後の開封割合",
        "open_share_evening": "夜の開封割合",
        "visit_share_06_09": "6〜9時の訪問の割合",
        "visit_share_09_12": "9〜12時の訪問の割合",
        "visit_share_12_15": "12〜15時の訪問の割合",
        "visit_share_15_18": "15〜18時の訪問の割合",
        "visit_share_18_21": "18〜21時の訪問の割合",
        "visit_share_21_24": "21〜24時の訪問の割合",
        "tenure_days": "顧客になってからの日数",
        "n_identities": "アカウント数",
        "n_consents": "同意数",
        "days_since_refusal": "前回の拒否からの日数",
        "online_spend": "オンラインでの購入額",
        "shop_spend": "店舗での購入額",
        "phone_spend": "電話での購入額",
        "discount_share": "割引購入の割合",
        "lifecycle_stage": "顧客ライフサイクルの段階",
        "hours_since_open_cart": "未購入カートの経過時間",
        "registrations_abandoned": "登録の中断回数",
        "contacts_since_response": "前回の反応以降の連絡回数",
        "failures": "未達メッセージ数",
        "low_touch_contacts": "一部人手による連絡回数",
        "high_touch_contacts": "担当者による連絡回数",
        "conversion_rate": "転換率",
        "complaints": "苦情件数",
        "rich_answer_share": "画像やページへの反応の割合",
        "open_share_weekend": "週末の開封割合",
        "visit_share_weekend": "週末の訪問割合",
        "days_since_consent": "前回の同意からの日数",
    },
    feature_window="過去{days}日の{name}",
    feature_channel="{name}（{channel}）",
)

"""What the page of a decision calls its parts, in every language."""
# ruff: noqa: RUF001 - full-width punctuation is the languages' own

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serving.explain.catalogue import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of one language; `{n}` is a count."""

    language: str
    decision: str
    decided_what: str
    customer: str
    decided: str
    send: str
    not_after: str
    arm_and_mode: str
    policy: str
    version: str
    campaign: str
    occasion: str
    decision_id: str
    candidates: str
    candidates_note: str
    action: str
    probability: str
    opens: str
    buys: str
    buys_alone: str
    cost: str
    net_value: str
    chosen: str
    drawn: str
    contributions: str
    contributions_note: str
    p_open: str
    uplift: str
    points: str
    others: str
    learned_since: str
    cut: str
    nothing_moved: str
    flips: str
    flips_note: str
    no_flips: str
    excluded: str
    nothing_excluded: str
    known: str
    n_features: str
    missing: str


LABELS: Mapping[Language, Labels] = MappingProxyType(
    {
        Language.ENGLISH: Labels(
            language="Language",
            decision="Decision",
            decided_what="What was decided",
            customer="Customer",
            decided="Decided",
            send="Send",
            not_after="not after",
            arm_and_mode="Arm and mode",
            policy="Policy",
            version="version",
            campaign="Campaign",
            occasion="Occasion",
            decision_id="Decision id",
            candidates="Candidates",
            candidates_note="the choice, then the best slot of each other offer and channel",
            action="Action",
            probability="Probability",
            opens="Opens",
            buys="Buys",
            buys_alone="Buys without contact",
            cost="Cost",
            net_value="Net value",
            chosen="chosen",
            drawn="The choice was drawn so that we keep learning. By value alone it would have been:",
            contributions="What moved the predictions",
            contributions_note="against an average customer on the same channel at the same time",
            p_open="Probability of an open",
            uplift="Effect of the contact on conversion",
            points="percentage points",
            others="{n} others",
            learned_since="learned since training",
            cut="cut to a probability",
            nothing_moved="No feature moved it: the customer counts as average.",
            flips="What would have turned the decision",
            flips_note="all else held; thresholds are exact",
            no_flips="No change of costs, margins, times or permissions that we looked at.",
            excluded="Excluded",
            nothing_excluded="Nothing: every action was a candidate.",
            known="What was known of the customer",
            n_features="{n} features",
            missing="missing",
        ),
        Language.CHINESE: Labels(
            language="語言",
            decision="決策",
            decided_what="決策內容",
            customer="顧客",
            decided="決策時間",
            send="發送",
            not_after="最晚",
            arm_and_mode="實驗組別與模式",
            policy="策略",
            version="版本",
            campaign="活動",
            occasion="時機",
            decision_id="決策編號",
            candidates="候選方案",
            candidates_note="先列出選中的方案，再列出其他優惠與管道各自的最佳時段",
            action="方案",
            probability="選中機率",
            opens="開啟率",
            buys="成交率",
            buys_alone="不聯絡時的成交率",
            cost="成本",
            net_value="淨收益",
            chosen="選中",
            drawn="這次的選擇是為了持續學習而抽中的。若只看價值，最佳選擇是：",
            contributions="影響預測的因素",
            contributions_note="與同一管道、同一時段的一般顧客相比",
            p_open="開啟機率",
            uplift="聯絡對成交的效果",
            points="百分點",
            others="其他 {n} 項",
            learned_since="訓練之後學到的調整",
            cut="限制在機率範圍內",
            nothing_moved="沒有任何特徵造成影響：視同一般顧客。",
            flips="哪些改變會讓決策不同",
            flips_note="其他條件不變；門檻為精確值",
            no_flips="在我們檢視的成本、利潤、時間與權限範圍內，沒有會改變決策的情況。",
            excluded="已排除",
            nothing_excluded="沒有：所有方案都是候選方案。",
            known="已知的顧客資訊",
            n_features="{n} 項特徵",
            missing="無資料",
        ),
        Language.JAPANESE: Labels(
            language="言語",
            decision="決定",
            decided_what="決定の内容",
            customer="お客様",
            decided="決定日時",
            send="配信",
            not_after="期限",
            arm_and_mode="実験群とモード",
            policy="ポリシー",
            version="バージョン",
            campaign="キャンペーン",
            occasion="オケージョン",
            decision_id="決定ID",
            candidates="候補",
            candidates_note="選ばれた候補に続けて、ほかのオファーとチャネルの最良の時間帯を示します",
            action="アクション",
            probability="選択確率",
            opens="開封率",
            buys="成約率",
            buys_alone="配信しない場合の成約率",
            cost="コスト",
            net_value="純利益",
            chosen="選択",
            drawn="今回は学習を続けるために抽選で選ばれました。価値だけで選ぶと次のとおりです：",
            contributions="予測を動かした要因",
            contributions_note="同じチャネル・同じ時間帯の平均的なお客様との比較",
            p_open="開封確率",
            uplift="配信が成約に与える効果",
            points="ポイント",
            others="その他{n}件",
            learned_since="学習後に得られた補正",
            cut="確率の範囲への調整",
            nothing_moved="動かした特徴量はありません。平均的なお客様として扱われます。",
            flips="決定が変わる条件",
            flips_note="ほかの条件は同じとします。しきい値は厳密な値です",
            no_flips="確認した範囲のコスト、利益、時間、同意では、決定は変わりません。",
            excluded="除外",
            nothing_excluded="なし：すべてのアクションが候補でした。",
            known="お客様についてわかっていること",
            n_features="特徴量{n}件",
            missing="データなし",
        ),
    }
)

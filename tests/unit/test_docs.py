"""What can be configured, refused or raised is documented."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

from features.checks.checks import CHECKS
from models.domain.action import REASON_WORDS, ReasonCode
from models.domain.interaction import InteractionKind, Place
from models.domain.machine_made import MachineRule
from models.explanation.flips import FlipKind
from nextchannel.settings import Settings
from serving.explain.catalogue import Absence, Language
from serving.explain.languages import CATALOGUES
from serving.observability.metrics import Metrics
from serving.reading import Degraded
from serving.routes.explained import RecordedDecisionOut
from serving.routes.schemas import DecisionOut

DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_code_is_documented_with_its_words() -> None:
    page = (DOCS / "reference" / "reason-codes.md").read_text()
    assert set(REASON_WORDS) == set(ReasonCode)
    for code, words in REASON_WORDS.items():
        assert f"| `{code}` | {words} |" in page


def test_every_part_of_an_explanation_is_documented_in_every_language() -> None:
    reference = (DOCS / "reference" / "explanation.md").read_text()
    for code in ReasonCode:
        said = " | ".join(words.reasons[code] for words in CATALOGUES.values())
        assert f"| `{code}` | {said} |" in reference
    explanation = (DOCS / "explanation" / "why-this-decision.md").read_text()
    for name in (*FlipKind, *Absence):
        assert f"`{name}`" in explanation
    for name in (*FlipKind, *Language, *RecordedDecisionOut.model_fields.keys() - DecisionOut.model_fields):
        assert f"`{name}`" in reference


def test_every_kind_place_and_machine_rule_of_interactions_is_documented() -> None:
    page = (DOCS / "reference" / "interactions.md").read_text()
    for name in (*InteractionKind, *Place):
        assert f"`{name}`" in page
    for rule in MachineRule:
        assert f"| `{rule}` |" in page


def test_every_data_check_is_documented() -> None:
    page = (DOCS / "how-to" / "checks.md").read_text()
    for name in CHECKS:
        assert f"`{name}`" in page


def test_every_setting_is_documented_with_its_description() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`NEXTCHANNEL_{name.upper()}`" in page
        assert field.description is not None
        assert field.description in page


def test_every_kind_of_problem_is_in_the_catalogue() -> None:
    serving = DOCS.parent / "serving"
    written = "".join(path.read_text() for path in sorted(serving.rglob("*.py")))
    kinds = {
        *re.findall(r'Refusal\(\s*\d+,\s*"([a-z-]+)"', written),
        *re.findall(r'status, kind, title = \d+, "([a-z-]+)"', written),
        *re.findall(r'type="/problems/([a-z-]+)"', written),
        *(
            HTTPStatus(int(status)).phrase.lower().replace(" ", "-")
            for status in re.findall(r"HTTPException\(status_code=(4(?!13)\d\d)", written)
        ),
    }
    assert {"unauthenticated", "conflict", "internal", "not-found", "unauthorized"} <= kinds
    page = (DOCS / "reference" / "api.md").read_text()
    listed = set(re.findall(r"^\| `/problems/([a-z-]+)` \| \d{3} \|", page, re.MULTILINE))
    assert kinds == listed


def test_every_way_of_being_degraded_is_documented() -> None:
    page = (DOCS / "explanation" / "how-a-decision-is-made.md").read_text()
    for reason in Degraded:
        assert f"| `{reason}` |" in page


def test_every_test_that_the_page_on_security_names_exists() -> None:
    page = (DOCS / "explanation" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) >= 20
    for path, test in named:
        assert f"def {test}" in (DOCS.parent / path).read_text()
    for risk in range(1, 11):
        assert f"| API{risk} " in page


def test_every_figure_is_described() -> None:
    page = (DOCS / "how-to" / "observe.md").read_text()
    for collector in Metrics().registry.collect():
        assert f"`{collector.name}" in page


def test_links_between_documents_lead_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"

"""A bundle comes back exactly, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time

import pytest

from models.bundle import MANIFEST, Bundle
from models.domain.errors import BundleError, InvalidInputError

BUNDLE = Bundle(
    feature_names=("visits_30d", "purchases_365d"),
    offers=("spring",),
    channels=("email", "sms"),
    slots=(time(9), time(18, 30)),
    created_at=datetime(2026, 3, 1, 9, tzinfo=UTC),
    response={"response.json": b"{}", "convert.txt": b"tree"},
    bandit={"vw.bin": b"\x00\x01"},
    metrics={"p_open.auc": 0.71},
)


def test_a_bundle_comes_back_as_it_was():
    back = Bundle.from_files(BUNDLE.to_files())
    assert back == BUNDLE
    assert back.version == BUNDLE.version
    assert back.to_files() == BUNDLE.to_files()


def test_a_bundle_without_a_bandit_comes_back_without_one():
    alone = replace(BUNDLE, bandit={})
    assert Bundle.from_files(alone.to_files()).bandit == {}


def test_equal_content_has_an_equal_version_and_any_change_another():
    assert replace(BUNDLE).version == BUNDLE.version
    changes = [
        replace(BUNDLE, feature_names=("purchases_365d", "visits_30d")),
        replace(BUNDLE, bandit={"vw.bin": b"\x00\x02"}),
        replace(BUNDLE, response={"response.json": b"{}", "other.txt": b"tree"}),
        replace(BUNDLE, created_at=datetime(2026, 3, 2, 9, tzinfo=UTC)),
        replace(BUNDLE, metrics={"p_open.auc": 0.72}),
    ]
    assert len({BUNDLE.version, *(changed.version for changed in changes)}) == 6


@pytest.mark.parametrize("name", ["response/response.json", "response/convert.txt", "bandit/vw.bin"])
def test_an_altered_or_missing_file_is_refused_by_its_name(name):
    files = BUNDLE.to_files()
    with pytest.raises(BundleError, match=f"{name} was altered"):
        Bundle.from_files(files | {name: files[name] + b" "})
    del files[name]
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.from_files(files)


def test_a_file_that_the_manifest_does_not_list_is_refused():
    with pytest.raises(BundleError, match=r"response/extra\.txt is not in the manifest"):
        Bundle.from_files(BUNDLE.to_files() | {"response/extra.txt": b""})


def test_an_altered_manifest_is_refused():
    files = BUNDLE.to_files()
    altered = json.loads(files[MANIFEST]) | {"feature_names": ["purchases_365d", "visits_30d"]}
    with pytest.raises(BundleError, match="altered"):
        Bundle.from_files(files | {MANIFEST: json.dumps(altered).encode()})


def test_a_missing_or_unreadable_manifest_is_refused():
    files = BUNDLE.to_files()
    for content in (b"not json", b"[]", b"{}", files[MANIFEST][:40]):
        with pytest.raises(BundleError):
            Bundle.from_files(files | {MANIFEST: content})
    del files[MANIFEST]
    with pytest.raises(BundleError, match="is missing"):
        Bundle.from_files(files)


def test_another_format_version_is_refused_with_both_numbers():
    files = BUNDLE.to_files()
    newer = json.loads(files[MANIFEST]) | {"format_version": 6}
    with pytest.raises(BundleError, match="format_version == 6, this release reads 5"):
        Bundle.from_files(files | {MANIFEST: json.dumps(newer).encode()})


def test_a_bundle_needs_a_response_model_and_an_aware_moment():
    with pytest.raises(InvalidInputError, match="response"):
        replace(BUNDLE, response={})
    with pytest.raises(InvalidInputError, match="created_at"):
        replace(BUNDLE, created_at=datetime(2026, 3, 1, 9))  # noqa: DTZ001 - that is the point

"""A model is what was published, or it is not loaded; nothing that is loaded can run code."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from features.registry import ModelRegistry
from models.bundle import MANIFEST, Bundle
from models.domain.errors import BundleError

ROOT = Path(__file__).parents[2]
HOUSE = ("models", "features", "training", "serving", "nextchannel")
PUBLISHED = Bundle(
    feature_names=("age",),
    offers=("coats",),
    channels=("email",),
    slots=(time(9),),
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    response={"model.txt": b"what was trained"},
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    home = tmp_path_factory.mktemp("registry")
    made = ModelRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    made.home = home
    return made


def test_a_model_file_that_was_altered_or_exchanged_is_refused(registry):
    version = registry.publish(PUBLISHED, params={}, metrics={}, report="")
    assert registry.load(version) == PUBLISHED
    (file,) = registry.home.rglob("model.txt")
    file.write_bytes(b"what a stranger put there")
    with pytest.raises(BundleError, match=r"response/model.txt was altered"):
        registry.load(version)
    # Another bundle, sound in itself, in the place of the published one.
    strange = replace(PUBLISHED, response={"model.txt": b"what a stranger put there"})
    manifest = file.parents[1] / MANIFEST
    manifest.write_bytes(strange.to_files()[MANIFEST])
    assert Bundle.from_files(strange.to_files()) == strange
    with pytest.raises(
        BundleError, match=f"holds bundle {strange.version}, published was {PUBLISHED.version}"
    ):
        registry.load(version)
    file.unlink()
    with pytest.raises(BundleError):
        registry.load(version)


def test_nothing_is_unpickled():
    unsafe = {"pickle", "cPickle", "cloudpickle", "joblib", "dill", "shelve", "marshal", "skops"}
    for folder in HOUSE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                assert unsafe.isdisjoint(name.split(".")[0] for name in names), path
                if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    assert ast.unparse(node.value) == "False", path

"""Finished plays of the market benchmark, kept in files: a run that was stopped goes on where it was.

Plays of every size are kept in a folder of the machine. Those of the full size that stand in `docs/reference/market` came with
the repository: `keep` puts them there, and nobody has to play again what no code has changed since.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tests.benchmarks.market_world import Played

_ROOT = Path(__file__).resolve().parents[2]
_IMPORTS = (ast.Import, ast.ImportFrom)
ORACLE, BEST_FIXED, OURS, GREEDY = "oracle", "best fixed in hindsight", "ours (bandit)", "ours (greedy)"
# What a play depends on, each beside the kinds before it: what nobody looks at leaves a play as it is.
_CODE: dict[str, tuple[str, ...]] = {
    "rule": (
        "training/simulator",
        "models/domain",
        "models/choice.py",
        "models/policy/baselines.py",
        "tests/benchmarks/market_world.py",
        "tests/benchmarks/market_memory.py",
    ),
    "rival": (
        "features/compute.py",
        "features/definitions.py",
        "features/feature_list.py",
        "features/formulas.py",
        "features/past.py",
        "tests/benchmarks/market_rivals.py",
    ),
    "ours": (
        "models/compiled.py",
        "models/draw.py",
        "models/logged.py",
        "models/policy",
        "models/response",
        "models/value.py",
        "tests/benchmarks/market_players.py",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One policy in one market.

    Attributes:
        preset: Of the market.
        seed: Of the market and of every draw.
        policy: Its name in the table.
        kind: `rule` looks at no features, `rival` learns from them by itself, `ours` by the models of this project.
    """

    preset: str
    seed: int
    policy: str
    kind: str


class Results:
    """A folder of finished cells; those of other code or another size are not seen.

    Args:
        folder: Made where it does not exist.
        shipped: Where plays are looked for that are not in the folder.
        size: What the plays depend on beside the code: customers, weeks, weeks of refits.
    """

    def __init__(self, folder: Path, shipped: Path, size: Mapping[str, object]) -> None:
        self._folder = folder
        self._shipped = shipped
        self._size = json.dumps(size, sort_keys=True)
        places: list[str] = []
        self._code = {}
        for kind, own in _CODE.items():
            places += own
            self._code[kind] = _digest(places, self._size)

    def path(self, cell: Cell) -> Path:
        """The file of a cell, below a folder of plays."""
        policy = "".join(each if each.isalnum() else "_" for each in cell.policy)
        return Path(self._code[cell.kind], f"{cell.preset}-{cell.seed}-{policy}.json")

    def load(self, cell: Cell) -> Played | None:
        """What was played, or None where it was not yet."""
        places = (folder / self.path(cell) for folder in (self._folder, self._shipped))
        found = next((path for path in places if path.exists()), None)
        if found is None:
            return None
        said = json.loads(found.read_text(encoding="utf-8"))["played"]
        return Played(
            **{name: np.array(value) if isinstance(value, list) else value for name, value in said.items()}
        )

    def save(self, cell: Cell, played: Played, cpu_seconds: float) -> None:
        """Keep what was played; the file appears whole or not at all."""
        values = {field.name: getattr(played, field.name) for field in fields(played)}
        document = {
            "preset": cell.preset,
            "seed": cell.seed,
            "policy": cell.policy,
            "size": json.loads(self._size),
            "cpu_seconds": round(cpu_seconds, 1),
            "simulated": True,
            "played": {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in values.items()
            },
        }
        path = self._folder / self.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    def keep(self, cells: Iterable[Cell]) -> int:
        """Put finished plays of some cells into the repository, in place of those of other code; how many there are now."""
        finished = {cell: path for cell in cells if (path := self._folder / self.path(cell)).exists()}
        for cell, path in finished.items():
            for older in self._shipped.glob(f"*/{path.name}"):
                older.unlink()
            kept = self._shipped / self.path(cell)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(path.read_bytes())
        for folder in self._shipped.glob("*/"):
            if not any(folder.iterdir()):
                folder.rmdir()
        return len(list(self._shipped.glob("*/*.json")))


def _digest(places: Iterable[str], size: str) -> str:
    """Of what every Python file in some places below the repository does, and of the size: words play no part."""
    found = hashlib.sha256(size.encode())
    for place in places:
        path = _ROOT / place
        for each in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(str(each.relative_to(_ROOT)).encode())
            found.update(_without_words(each.read_text(encoding="utf-8")).encode())
    return found.hexdigest()[:12]


def _without_words(source: str) -> str:
    """The source without comments, docstrings and layout, its imports in front wherever they stand."""
    tree = ast.parse(source)
    imported = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
        imported += [ast.unparse(each) for each in node.body if isinstance(each, _IMPORTS)]
        node.body = [each for each in node.body if not isinstance(each, _IMPORTS)]
    return "\n".join([*sorted(imported), ast.unparse(tree)])

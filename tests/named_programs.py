"""Programs that a name starts: the modules of a folder under `tests` that have a `main(arguments)`.

Their parts live beside them and have no `main`.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path


def names(folder: str) -> list[str]:
    """The programs of a folder, found without importing them."""
    return sorted(
        path.stem
        for path in (Path(__file__).parent / folder).glob("*.py")
        if not path.stem.startswith("_") and _has_main(path)
    )


def run(folder: str, arguments: list[str]) -> int:
    """Hand the remaining arguments to the program's own `main`; what it returns is the exit code."""
    name = arguments[0] if arguments else ""
    known = names(folder)
    if name not in known:
        raise SystemExit(f"{folder} {name!r}: must be one of {', '.join(known)}")
    code: int = importlib.import_module(f"tests.{folder}.{name}").main(arguments[1:])
    return code


def _has_main(path: Path) -> bool:
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)

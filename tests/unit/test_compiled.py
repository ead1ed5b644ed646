"""What is compiled stays what its source says: in the cache, alone and among many, in any process."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import NullCache
from numba.core.registry import CPUDispatcher

from models.compiled import compiled, inlined, plain

ROOT = Path(__file__).parents[2]
MODULES = [
    importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted((ROOT / "models").rglob("*.py"))
    if "from models.compiled import" in path.read_text()
]
FUNCTIONS = {
    f"{module.__name__}.{name}": found
    for module in MODULES
    for name, found in vars(module).items()
    if isinstance(found, CPUDispatcher)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_compiled_function_uses_what_its_own_file_defines_alone(name: str) -> None:
    """A cached function is compiled again when its own file has changed, and then only."""
    function = FUNCTIONS[name].py_func
    source = ast.parse(Path(function.__code__.co_filename).read_text())
    own = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
    own |= {
        target.id
        for node in source.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
        and not any(isinstance(part, ast.Name) for part in ast.walk(node.value))
    }
    used = {each for each in function.__code__.co_names if each in function.__globals__}
    assert used <= own | {"np"}


def test_every_compiled_function_was_compiled_when_its_module_was_imported() -> None:
    """Other types are refused instead of compiled for: nothing is compiled while somebody waits."""
    # What is inlined has no cache of its own, and types from whoever calls it.
    entries = [found for found in FUNCTIONS.values() if not isinstance(found._cache, NullCache)]
    assert len(entries) >= 10
    assert all(found.overloads for found in entries)
    assert not any(found._can_compile for found in entries)


def test_other_types_are_refused() -> None:
    @compiled("float64(float64[::1])")
    def total(numbers: np.ndarray) -> float:
        found = 0.0
        for number in numbers:
            found += number
        return found

    assert total(np.array([1.0, 2.5])) == 3.5
    with pytest.raises(TypeError):
        total(np.array([1, 2]))


def test_a_sum_keeps_its_order() -> None:
    @inlined
    def total(numbers: np.ndarray) -> float:
        found = 0.0
        for number in numbers:
            found += number
        return found

    numbers = np.random.default_rng(0).normal(size=10_001) * 10.0 ** np.arange(-8, 9)[np.arange(10_001) % 17]
    assert total(numbers) == total.py_func(numbers)  # type: ignore[attr-defined]


def test_an_array_is_copied_only_where_compiled_functions_cannot_take_it() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert plain(array) is array
    frozen = array.copy()
    frozen.flags.writeable = False
    for odd in (array.T, array[:, 1:], np.broadcast_to(array[0], (4, 3)), frozen):
        taken = plain(odd)
        assert taken.flags.carray
        assert np.array_equal(taken, odd)


PROGRAM = (
    "import numpy as np; from models.draw import sample;"
    "from models.draw import _draw; print(sample(np.array([[.25, .75]]), np.array([.5])), sum(_draw.stats.cache_hits.values()))"
)


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    first, second = (run(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first == "[1] 0"
    assert second == "[1] 1"


def test_without_a_place_for_a_cache_every_process_compiles_for_itself(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.touch()
    only_there = "UserProvidedCacheLocator"
    out = run(NUMBA_CACHE_DIR=str(nowhere), NUMBA_CACHE_LOCATOR_CLASSES=only_there)
    assert out == "[1] 0"

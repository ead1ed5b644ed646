"""The house keeps its promises to whoever installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"models", "features", "training", "serving", "nextchannel"}


def test_the_wheel_holds_exactly_the_intended_top_level_names(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == TOP_LEVEL
    assert any(name.endswith("/env.py") and "migrations" in name for name in names)
    assert any(name.endswith(".html") for name in names)
    assert not any(name.startswith("mlflow/") for name in names)


def test_import_mlflow_is_the_library() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    found = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__version__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == metadata.version("mlflow")


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys; from nextchannel.main import cli; from typer.testing import CliRunner;"
        "result = CliRunner().invoke(cli, ['--help']); assert result.exit_code == 0, result.output;"
        "print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {
        "feast", "mlflow", "lightgbm", "vowpalwabbit", "pandas", "polars", "duckdb", "fastapi",
        "sqlalchemy", "scipy", "numpy", "numba", "sklearn", "pyarrow", "PIL", "zxingcpp",
    }  # fmt: skip
    assert heavy.isdisjoint(loaded.stdout.split())


def test_constraints_carry_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;]+( ; .+)?", line), line
        assert "://" not in line

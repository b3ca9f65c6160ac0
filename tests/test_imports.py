"""The contracts on imports hold, each can be broken, and nothing is imported that pyproject.toml does not declare."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
# One import for each contract that breaks it: (in this module, this line).
BREAKS = {
    "Imports run one way, and stages do not import each other": ("corpus/clean.py", "from bllossom.vocab import proof"),
    "Of model/ the other stages know what is on the disk, not its stages": (
        "training/models.py",
        "from bllossom.model import surgery",
    ),
    "Within training the loop knows the engines, and the engines do not know the loop": (
        "training/engines/loss.py",
        "from bllossom.training.runs import trainer",
    ),
    "Repairing a vocabulary is string and rank algorithms: it knows no stage": (
        "vocab/repair/segments.py",
        "from bllossom.vocab import report",
    ),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import importlinter.cli as c; c.lint_imports_command()", "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_every_contract_is_kept_and_can_be_broken(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bllossom", tmp_path / "bllossom", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    kept = lint(tmp_path)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    assert {contract["name"] for contract in contracts} == BREAKS.keys()
    for file, line in BREAKS.values():
        path = tmp_path / "bllossom" / file
        path.write_text(path.read_text(encoding="utf8") + f"\n{line}\n", encoding="utf8")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    for name in BREAKS:
        assert re.search(re.escape(name) + r"\s*BROKEN", broken.stdout), broken.stdout


def imported() -> dict[str, str]:
    """Each top-level package that the code imports, and a file that does."""
    found = {}
    for path in (ROOT / "bllossom").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0]: path.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[node.module.partition(".")[0]] = path.name
    return {name: file for name, file in found.items() if name != "bllossom" and name not in sys.stdlib_module_names}


def declared() -> set[str]:
    """Names of distributions in pyproject.toml, the extras among them."""
    project = SETTINGS["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=;~ ]", each)[0] for one in lists for each in one}
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


# Kernels for GPUs, which the code names and looks for; users install them by hand, since they need CUDA to build.
BY_HAND = {"liger_kernel"}


@pytest.mark.parametrize(("package", "file"), sorted(imported().items()))
def test_what_is_imported_is_declared(package: str, file: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, [package])
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in owners}
    assert package in BY_HAND or names & declared(), f"{file} imports {package}, and pyproject.toml does not declare it"

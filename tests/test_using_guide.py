"""What docs/using.md tells to type is run, on a small published run in place of the demo's."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs/using.md").read_text(encoding="utf8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
BLLOSSOM = f"{sys.executable} -m bllossom.cli"


@pytest.fixture(scope="module")
def runs(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/demo` in it."""
    folder = tmp_path_factory.mktemp("using")
    shutil.copytree(published, folder / "runs/demo")
    for name in ("eval-base", "eval-tuned"):
        shutil.copytree(published / "scores", folder / "runs/demo" / name)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, runs: Path) -> None:
    ended = run(re.sub(r"\bbllossom\b", BLLOSSOM, command), runs)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_model_loads_in_transformers(runs: Path) -> None:
    [code] = PYTHON
    ended = subprocess.run([sys.executable, "-c", code], cwd=runs, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "안녕하세요" in ended.stdout

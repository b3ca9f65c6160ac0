"""The cluster templates: sound shell, and the ranks they start are ranks."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_runs import assert_same_run

from bllossom.training.pretrain import PretrainConfig, pretrain

CLUSTER = Path(__file__).parents[2] / "scripts" / "cluster"
TEMPLATES = sorted(CLUSTER.glob("*.sh"))

SRUN = """#!/bin/sh
# Two tasks on this machine, told apart as Slurm does it.
shift # --kill-on-bad-exit=0
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" || exit $?
wait $other
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which scontrol and srun answer for two tasks on this machine."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"scontrol": "#!/bin/sh\necho localhost\n", "srun": SRUN}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    return {**os.environ, **job, "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_is_sound_shell(template: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run([shellcheck, template], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_prints_its_command(template: Path, slurm: dict[str, str]) -> None:
    command = [template, "pretrain", "config.yaml", "steps=3"]
    said = subprocess.run(command, env=slurm | {"DRY_RUN": "1"}, capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith("pretrain --config config.yaml steps=3")
    without_config = subprocess.run([template, "pretrain"], env=slurm, capture_output=True, text=True)
    assert without_config.returncode == 2
    assert "usage:" in without_config.stderr


@pytest.mark.slow
def test_tasks_of_slurm_train_as_ranks(
    slurm: dict[str, str],
    settings: Callable[..., dict[str, Any]],
    tmp_path: Path,
    write_yaml: Callable[[dict[str, Any]], Path],
) -> None:
    output, launched = tmp_path / "slurm", tmp_path / "launched"
    config = write_yaml(settings(output))
    slurm |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([CLUSTER / "slurm.sh", "pretrain", config], env=slurm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pretrain(PretrainConfig(**settings(launched, processes=2)))
    assert_same_run(launched, output)

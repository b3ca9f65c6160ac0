"""The cluster templates: sound shell, and the ranks they start are ranks."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import assert_same_run, partial_of, wait_for_step

Settings = Callable[..., dict[str, Any]]

CLUSTER = Path(__file__).parents[2] / "scripts" / "cluster"
TEMPLATES = sorted(CLUSTER.glob("*.sh"))

# What stands for the cluster: srun starts two tasks on this machine, told apart as Slurm does it, and exits with the
# highest of their codes; requeued jobs are noted; ssh reaches this machine.
TOOLS = {
    "srun": """#!/bin/sh
if [ -n "$TASKS_EXIT" ]; then exit "$TASKS_EXIT"; fi
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"; highest=$?
wait $other; status=$?
exit $((status > highest ? status : highest))
""",
    "scontrol": """#!/bin/sh
if [ "$1" = requeue ]; then echo "$2" >> "$REQUEUED"; else echo localhost; fi
""",
    "ssh": "#!/bin/sh\necho 127.0.0.1\n",
}


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment in which this machine is a cluster: a Slurm job of two tasks, and a DeepSpeed hostfile."""
    tools, hosts = tmp_path / "tools", tmp_path / "hosts"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    hosts.write_text("localhost slots=2\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    own = {"REQUEUED": str(tmp_path / "requeued"), "HOSTFILE": str(hosts), "GPUS": "2", "MASTER_PORT": port}
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, **job, **own, "OMP_NUM_THREADS": "1", "PATH": path}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_is_sound_shell(template: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run([shellcheck, template], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_prints_its_command(template: Path, cluster: dict[str, str]) -> None:
    command = [template, "pretrain", "config.yaml", "steps=3"]
    said = subprocess.run(command, env=cluster | {"DRY_RUN": "1"}, capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith("pretrain --config config.yaml steps=3")
    without_config = subprocess.run([template, "pretrain"], env=cluster, capture_output=True, text=True)
    assert without_config.returncode == 2
    assert "usage:" in without_config.stderr


@pytest.mark.parametrize("status", [0, 1, 75, 137])
def test_slurm_job_goes_back_into_the_queue_where_it_was_stopped(status: int, cluster: dict[str, str]) -> None:
    ended = subprocess.run([CLUSTER / "slurm.sh", "pretrain", "config.yaml"], env=cluster | {"TASKS_EXIT": str(status)})
    assert ended.returncode == status
    requeued = Path(cluster["REQUEUED"])
    assert (requeued.read_text().split() if requeued.exists() else []) == (["4711"] if status == 75 else [])


@pytest.fixture(scope="module")
def launched(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that our own launcher started."""
    output = tmp_path_factory.mktemp("launched") / "model"
    pretrain(PretrainConfig(**settings(output, processes=2)))
    return output


def ranks_below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that a launcher started, which know their place."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "RANK" in child.environ()]


def launcher_itself(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [psutil.Process(process.pid)]


STOPS: dict[str, tuple[Callable[[subprocess.Popen[str]], list[psutil.Process]], int]] = {
    "slurm.sh": (ranks_below, 75),
    "torchrun.sh": (launcher_itself, 1),
    "deepspeed.sh": (lambda process: ranks_below(process)[-1:], 75),
}


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_stopped_job_goes_on_with_the_same_command(
    template: Path,
    cluster: dict[str, str],
    settings: Settings,
    launched: Path,
    tmp_path: Path,
    write_yaml: Callable[[dict[str, Any]], Path],
) -> None:
    if template.name == "deepspeed.sh":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    output, log = tmp_path / "model", tmp_path / "log"
    command = [template, "pretrain", write_yaml(settings(output))]
    to_signal, exit_code = STOPS[template.name]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=cluster, text=True, stdout=file, stderr=file)
        wait_for_step(output, 3, process)
        for told in to_signal(process):
            told.terminate()
        assert process.wait(timeout=60) == exit_code, log.read_text()
    assert "saved; to go on, run the same command" in log.read_text()
    assert checkpoints.newest(partial_of(output) / "checkpoints") is not None
    assert Path(cluster["REQUEUED"]).exists() == (template.name == "slurm.sh")

    subprocess.run(command, env=cluster, check=True)
    assert_same_run(launched, output)

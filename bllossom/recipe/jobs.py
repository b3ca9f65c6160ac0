"""A recipe's steps side by side: each in a process of its own, as soon as all that it reads is published."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from bllossom.artifacts import Manifest, read_manifest
from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.ranks.lifetime import stop_requests, stop_signals
from bllossom.recipe.recipe import PlannedStep, check_made

LOOK_SECONDS = 0.2
LAST_LINES = 5  # of a step's log, shown where it fails


@dataclass
class _Job:
    step: PlannedStep
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    started: float


def run_side_by_side(
    steps: Sequence[PlannedStep], jobs: int, logs: Path, *, force: bool = False
) -> dict[str, Manifest]:
    """Run the steps, at most `jobs` at a time, and give their manifests; what each says goes to `logs`/STEP.log.

    The GPUs that are visible here, and the cores, are dealt out to the jobs in equal parts; with fewer GPUs than jobs,
    several share one.

    Raises:
        BllossomError: a step failed; those under way are waited for, no other is begun.
        Stopped: a step was stopped on request, or Ctrl-C or SIGTERM came here, which is handed on; no job is left.
    """
    logs.mkdir(parents=True, exist_ok=True)
    names = {step.name for step in steps}
    waiting, running, done = list(steps), dict[int, _Job](), set[str]()
    failed: list[_Job] = []
    with stop_requests() as asked:  # an exception could come between a job's start and its entry here
        try:
            while (running or (waiting and not failed)) and not asked():
                for slot in range(jobs):
                    ready = next((step for step in waiting if not (step.reads & names) - done), None)
                    if slot not in running and ready is not None and not failed:
                        waiting.remove(ready)
                        running[slot] = _start(ready, slot, jobs, logs, force)
                for slot, job in list(running.items()):
                    if job.process.poll() is None:
                        continue
                    del running[slot]
                    job.log.close()
                    if job.process.returncode == 0:
                        done.add(job.step.name)
                        check_made(job.step, waiting)
                        say(f"── {len(done)}/{len(steps)} {job.step.name} ({time.monotonic() - job.started:.0f} s)")
                    else:
                        failed.append(job)
                time.sleep(LOOK_SECONDS)
        finally:
            failed += _stop(list(running.values()), asked)
        if asked() and not failed:
            raise Stopped
    if failed:
        raise _failure(failed, logs)
    found = {step.name: read_manifest(step.loaded.config.output) for step in steps}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def _start(step: PlannedStep, slot: int, jobs: int, logs: Path, force: bool) -> _Job:
    config = logs / f"{step.name}.yaml"
    values = step.loaded.config.model_dump(mode="json")
    config.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf8")
    command = [sys.executable, "-m", "bllossom.cli", *step.command.split(), "--config", str(config)]
    log = (logs / f"{step.name}.log").open("ab")
    environment = os.environ | _share(slot, jobs, os.environ)
    process = subprocess.Popen([*command, *(["--force"] if force else [])], env=environment, stdout=log, stderr=log)
    say(f"── begins: {step.name} (said in {log.name})")
    return _Job(step, process, log, slot, time.monotonic())


def _stop(jobs: Sequence[_Job], asked: Callable[[], Sequence[int]]) -> list[_Job]:
    """Ask the jobs to stop, wait until they have saved what they have, and give those that failed at it.

    A second Ctrl-C comes from one who does not want to wait. Other signals come twice by themselves: of a closed
    terminal SIGHUP, from the shell and from the kernel.
    """
    if not jobs:
        return []
    for job in jobs:
        job.process.send_signal(signal.SIGTERM)
    names = ", ".join(job.step.name for job in jobs)
    say(f"stopping: {names} finish what is under way and save it; a second Ctrl-C ends them at once")
    killed = False
    while any(job.process.poll() is None for job in jobs):
        if not killed and asked().count(signal.SIGINT) > 1:
            killed = True
            for job in jobs:
                job.process.kill()
        time.sleep(LOOK_SECONDS)
    for job in jobs:
        job.log.close()
    # Before a job's own handlers stand, a signal ends it.
    stopped = {0, Stopped.exit_code, *(-number for number in stop_signals()), *([-signal.SIGKILL] if killed else [])}
    return [job for job in jobs if job.process.returncode not in stopped]


def _share(slot: int, jobs: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The part of the machine that a job may use, as environment variables; what the user set for threads stays."""
    share: dict[str, str] = {}
    if "OMP_NUM_THREADS" not in environment:
        share["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    told = environment.get("CUDA_VISIBLE_DEVICES")
    gpus = _all_gpus() if told is None else [gpu for gpu in told.split(",") if gpu]  # empty: the CPU is asked for
    if gpus:
        # Never none of several: a step would train on the CPU without a word.
        share["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[slot::jobs] or [gpus[slot % len(gpus)]])
    return share


def _all_gpus() -> list[str]:
    """CUDA numbers what is here from 0 on, whichever of the machine's devices a container was given."""
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def _failure(jobs: Sequence[_Job], logs: Path) -> BllossomError:
    broken = [job for job in jobs if job.process.returncode != Stopped.exit_code]
    if not broken:
        return Stopped(f"{jobs[0].step.name} was stopped; to go on, run the same command")
    told: list[str] = []
    for job in broken:
        path = logs / f"{job.step.name}.log"
        last = path.read_text(encoding="utf8", errors="replace").splitlines()[-LAST_LINES:]
        told += [f"{job.step.name} failed (all it said is in {path}):", *last]
    return BllossomError("\n".join(told))

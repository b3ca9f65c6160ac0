"""Build the wheel, install it in an empty environment outside the repository, and run it there: `make wheel-test`.

What is tested is ours: that every file of the package is in the wheel, that the program is installed with it, and that
it runs without the checkout. The dependencies are those of the environment that this runs in, lent by a path file.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("bllossom", "pyproject.toml", "README.md", "LICENSE")
HELP_OF_EVERY_COMMAND = """
import sys
from pathlib import Path

import bllossom
from bllossom.cli import make_app
from typer.main import get_command
from typer.testing import CliRunner

assert Path(bllossom.__file__).is_relative_to(sys.prefix), f"{bllossom.__file__} is not the installed one"


def words(command, before=()):
    for name, inner in getattr(command, "commands", {}).items():
        yield (*before, name)
        yield from words(inner, (*before, name))


for typed in words(get_command(make_app())):
    done = CliRunner().invoke(make_app(), [*typed, "--help"])
    assert done.exit_code == 0 and "Usage" in done.output, f"{typed}: {done.output} {done.exception}"
    print(*typed, "--help")
"""


def main() -> None:
    """Build, install, run."""
    with tempfile.TemporaryDirectory() as temporary:
        outside = Path(temporary)
        wheel = build(outside)
        check_files(wheel)
        program = install(wheel, outside / "environment")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        for command in (
            [program / "bllossom", "--version"],
            [program / "bllossom", "--help"],
            [program / "python", "-c", HELP_OF_EVERY_COMMAND],
            [program / "bllossom", "run", ROOT / "configs/demo/recipe.yaml", "--dry-run"],
        ):
            run(*command, cwd=outside, env=environment)


def build(outside: Path) -> Path:
    """The wheel, built from a copy: a build in the checkout would also take what earlier builds left there."""
    source = outside / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", outside, source)
    (wheel,) = outside.glob("*.whl")
    return wheel


def check_files(wheel: Path) -> None:
    """Every file of the package is in the wheel: code, tasks, templates, tables, what a page is made of."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("bllossom/")}
    files = (path for path in (ROOT / "bllossom").rglob("*") if path.is_file() and path.suffix != ".pyc")
    here = {path.relative_to(ROOT).as_posix() for path in files}
    if packed != here:
        raise SystemExit(f"not in the wheel: {sorted(here - packed)}; only there: {sorted(packed - here)}")
    print(f"{wheel.name}: {len(packed)} files")


def install(wheel: Path, environment: Path) -> Path:
    """The folder of the programs of a new environment that has the wheel, and borrows its dependencies."""
    venv.create(environment)
    python = environment / "bin/python"
    paths = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    # Path files inside of it, the one of an editable install among them, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    return python.parent


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a program, show the end of what it says, and end with it where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    print(f"{' '.join(words)[-80:].splitlines()[-1].strip()}: {len(done.stdout.splitlines())} lines")


if __name__ == "__main__":
    main()

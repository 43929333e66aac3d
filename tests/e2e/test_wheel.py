"""The wheel that people install holds the whole package, declares what it needs, and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("storage", "memoriesdb", "sync", "daemon", "cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DRIVEN = {
    "steno.cli.chat_model": "chat",
    "steno.sync.vault.postgres_remote": "postgres",
    "steno.sync.vault.redis_remote": "redis",
}
"""What is imported only where it is used, since it needs a driver, and the extra that brings that."""

# The installer that the Makefile takes: an environment made by uv has no pip, its Python perhaps no ensurepip.
UV = shutil.which("uv")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: setuptools leaves directories in a tree, and packs what it left there earlier."""
    tree, out = tmp_path_factory.mktemp("checkout") / "any-name", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist"))
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds nothing but the wheel and what it declares to need."""
    environment = tmp_path_factory.mktemp("empty") / "venv"
    python, cwd = environment / "bin" / "python", environment.parent
    if UV:
        _run(UV, "venv", "--quiet", "--python", sys.executable, environment, cwd=cwd)
        install = [UV, "pip", "install", "--quiet", "--python", python]
    else:
        # A pip of its own, and compiling what nobody imports, would take twice as long as all else.
        _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=cwd)
        install = [sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-compile", "--retries=1"]
    try:
        _run(*install, wheel, cwd=cwd)
    except AssertionError:
        if os.environ.get("STENO_REQUIRE_SERVERS") or _reaches_an_index(install, cwd):
            raise
        pytest.skip("no package index can be reached to install the wheel's dependencies from")
    return environment / "bin"


def _reaches_an_index(install: Sequence[str | os.PathLike[str]], cwd: Path) -> bool:
    with suppress(AssertionError):
        _run(*install, "--dry-run", "--no-deps", "click", cwd=cwd)
        return True
    return False


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    manual = f"steno-{PROJECT['version']}.data/data/share/man/man1/steno.1"
    assert packed == {manual, *(f"steno/{path.relative_to(ROOT)}" for path in _files_of_the_package())}


def test_every_directory_with_code_is_a_package() -> None:
    directories = {path.parent for path in _files_of_the_package() if path.suffix == ".py"}
    assert [path for path in directories if not (path / "__init__.py").exists()] == []


def test_the_installed_program_says_its_version(programs: Path, tmp_path: Path) -> None:
    assert PROJECT["version"] in _run(programs / "steno", "--version", cwd=tmp_path).split()[-1]


def test_the_installed_program_explains_itself(programs: Path, tmp_path: Path) -> None:
    assert _run(programs / "steno", "--help", cwd=tmp_path).startswith("Usage: steno ")


def test_every_module_of_the_wheel_can_be_imported(programs: Path, tmp_path: Path) -> None:
    modules = [_module(path) for path in _files_of_the_package() if path.suffix == ".py" and path.stem != "__main__"]
    modules = [module for module in modules if module not in DRIVEN]
    script = "import importlib, sys; [print(importlib.import_module(name).__file__) for name in sys.argv[1:]]"
    found = _run(programs / "python", "-c", script, *modules, cwd=tmp_path).splitlines()
    assert [path for path in found if programs.parent not in Path(path).parents] == []


@pytest.mark.parametrize("module", DRIVEN)
def test_what_needs_a_driver_says_which_extra_brings_it(programs: Path, tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [programs / "python", "-c", f"import {module}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"pip install 'steno[{DRIVEN[module]}]'" in done.stderr.splitlines()[-1]


def _files_of_the_package() -> list[Path]:
    """What belongs into a wheel, by the layout of the tree and not by the list that is on trial."""
    inside = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*"))]
    return [
        ROOT / "__init__.py",
        ROOT / "py.typed",
        *(path for path in inside if path.is_file() and "__pycache__" not in path.parts),
    ]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("steno", *(part for part in parts if part != "__init__")))


def _run(*command: str | os.PathLike[str], cwd: Path) -> str:
    """Run away from the tree and without Python's variables, which could lend a module to the wheel."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout

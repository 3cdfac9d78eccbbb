"""Builds the package with setuptools, and the C sources of this folder with it; the build backend of pyproject.toml.

The sources need no header of Python and link to nothing, so one library serves every version of Python. ``cc`` compiles
it; where there is none, the package ``ziglang`` from PyPI does, which an isolated build then installs by itself.
"""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

FOLDER = Path(__file__).parent
LIBRARY = "native.bin"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=default", "-Wall", "-Wextra", "-Werror")
ZIGLANG = "ziglang"

# This module is imported by its name alone, without its package.
digest_of_sources = runpy.run_path(str(FOLDER / "sources.py"))["digest_of_sources"]


def compiler() -> list[str]:
    """The command that compiles C.

    Raises:
        RuntimeError: there is none.
    """
    for name in COMPILERS:
        if (found := shutil.which(name)) is not None:
            return [found]
    if importlib.util.find_spec(ZIGLANG) is None:
        raise RuntimeError(f"no C compiler: install one ({', '.join(COMPILERS)}), or run 'pip install {ZIGLANG}'")
    machine = sysconfig.get_platform().partition("-")[2].replace("-", "_")
    # A named target means the oldest processor and C library of its kind, not those of this machine.
    target = ["-target", f"{machine}-linux-gnu.2.17"] if sys.platform == "linux" else []
    return [sys.executable, "-m", ZIGLANG, "cc", *target, "-fno-sanitize=undefined"]


def compile_library(path: Path, *flags: str) -> None:
    """Compile the sources into a library, with further flags."""
    sources = sorted(str(source) for source in FOLDER.glob("*.c"))
    define = f'-DSOURCES="{digest_of_sources()}"'
    # Processes that use the library keep the file that they have: it is replaced, not overwritten.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        # The further flags come last, so that they win.
        subprocess.run(  # noqa: S603 - the compiler, with our own arguments
            [*compiler(), *FLAGS, define, *flags, *sources, "-o", str(made)], check=True
        )
        made.replace(path)


def _requires(found: list[str]) -> list[str]:
    return found if any(map(shutil.which, COMPILERS)) else [*found, ZIGLANG]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """As setuptools has it, and a compiler where there is none."""
    return _requires(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """As setuptools has it, and a compiler where there is none."""
    return _requires(build_meta.get_requires_for_build_editable(config_settings))


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build a wheel for this platform and any Python."""
    compile_library(FOLDER / LIBRARY)
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    options = {**(config_settings or {}), "--build-option": ["--plat-name", platform]}
    return str(build_meta.build_wheel(wheel_directory, options, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the library in this folder, and let Python find the sources."""
    compile_library(FOLDER / LIBRARY)
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))

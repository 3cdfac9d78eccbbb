"""Programs of the Prometheus family, run by tests where this machine has them: ended by their process ids."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "kcat": "kcat",
}
"""Program to the Debian package that has it."""

OTHER_NAMES = {"prometheus-alertmanager": "alertmanager"}


def found(name: str) -> str | None:
    """Where a program is; None: nowhere."""
    return shutil.which(name) or shutil.which(OTHER_NAMES.get(name, name))


def needs(*names: str) -> pytest.MarkDecorator:
    """Marks a test that cannot be run without these programs."""
    missing = [name for name in names if found(name) is None]
    packages = " ".join(dict.fromkeys(PACKAGES[name] for name in missing))
    reason = f"NOT TESTED: {', '.join(missing)} not on PATH (apt-get install --no-install-recommends {packages})"
    return pytest.mark.skipif(bool(missing), reason=reason)


@contextmanager
def program(name: str, folder: Path, ready: str, *args: str) -> Iterator[str]:
    """A running server, and where it answers; its log is ``NAME.log`` in the folder.

    Args:
        name: of the program.
        folder: its working directory.
        ready: path of a page that answers 200 once it serves.
        args: its arguments, in which ``{port}`` is a free port.
    """
    path, port = found(name), free_port()
    assert path is not None
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [path, *(arg.format(port=port) for arg in args)], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://{HOST}:{port}"
    try:
        wait_until(lambda: process.poll() is not None or answers(url + ready), f"{name} serves")
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def get_json(url: str) -> Any:
    """A page's JSON."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def post_json(url: str, body: Any) -> Any:
    """The answer's JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)

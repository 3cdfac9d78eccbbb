"""Serves an app of a page as a process, and goes through its sign-up as a browser does."""

from __future__ import annotations

import http.cookiejar
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funnelwatch.deploy.embedded.ports import HOST, free_port
from tests.stack import wait_until
from tests.worker import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings

ROOT = Path(__file__).parents[1]
CHROME = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@contextmanager
def served(settings: Settings, folder: Path, code: str | None, shell: str, **env_more: str) -> Iterator[str]:
    """The app of a block as a process; yields its address.

    Args:
        settings: where Kafka is, and the topics.
        folder: where the process runs.
        code: of the module shop; None: it is there already.
        shell: the command by which Python serves it, without ``python``.
        env_more: more of the environment.
    """
    port = free_port()
    if code is not None:
        (folder / "shop.py").write_text(code)
    env = environment(settings) | {"PYTHONPATH": f"{folder}:{ROOT}", "PORT": str(port), **env_more}
    with (folder / "log").open("wb") as log:
        command = ["bash", "-ec", f"exec {sys.executable} {shell}"]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        url = f"http://{HOST}:{port}"

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{url}/none", timeout=30).close()
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                return False
            return True

        wait_until(answers, "the app answers", 120)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def browse(url: str) -> Callable[..., int]:
    """A browser that keeps cookies: takes method, path and JSON; gives the status."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.addheaders = [("User-Agent", CHROME)]

    def ask(method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> int:
        request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": kind}, method=method)
        for cookie in jar:
            if cookie.name == "csrftoken":
                request.add_header("X-CSRFToken", cookie.value or "")
        try:
            with browser.open(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    return ask


def sign_up(url: str) -> list[int]:
    """One person: sees the form, types a wrong code, then the right one; the statuses."""
    ask = browse(url)
    return [ask("GET", "/sign-up/code"), ask("POST", "/sign-up/code?code=9"), ask("POST", "/sign-up/code?code=1234")]


def check_sign_up(events: list[dict[str, Any]]) -> None:
    """What one person's way through the step is on the topic, in order."""
    assert [(event["phase"], event["status"]) for event in events] == [
        ("IMPRESSION", None),
        ("POST_VERIFICATION", "FAILURE"),
        ("POST_VERIFICATION", "SUCCESS"),
    ]
    assert len({event["sign_up_session_id"] for event in events}) == 1
    assert {(event["step"], event["os"], event["browser"]) for event in events} == {
        ("VERIFY_SMS_CODE", "Android", "Chrome")
    }
    assert all(event["duration_ms"] >= 0 for event in events[1:])

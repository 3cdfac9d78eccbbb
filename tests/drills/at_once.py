"""Several drills at the same time, each a process with servers of its own: most of a drill is waiting."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.deploy.supervisor import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]


def run_at_once(
    names: Sequence[str], options: Sequence[str], count: int, say: Callable[[str], None], show: Callable[[str], None]
) -> dict[str, int]:
    """Run drills, ``count`` at a time; the exit code of each.

    Args:
        names: of the drills.
        options: of the command, for each.
        count: how many at a time.
        say: gets the progress, line by line, each with the drill's name.
        show: gets what a drill prints, once it is over.

    Raises:
        KeyboardInterrupt: as it came; the drills under way have ended what they had started.
    """
    running: dict[str, subprocess.Popen[str]] = {}
    stopped = threading.Event()

    def run(name: str) -> tuple[str, int, str]:
        if stopped.is_set():
            return name, 1, ""
        process = running[name] = subprocess.Popen(
            [sys.executable, "-m", "tests.drills", name, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A terminal's Ctrl-C is for us, who end them.
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one call of libc, no lock is taken
        )
        if stopped.is_set():  # since it was looked at
            process.terminate()
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            say(f"{name:10} {line.rstrip()}")
        printed = process.stdout.read()  # a few lines, which wait in the pipe
        code = process.wait()
        del running[name]
        return name, code, printed

    codes: dict[str, int] = {}
    pool = ThreadPoolExecutor(count)
    try:
        for done in as_completed([pool.submit(run, name) for name in names]):
            name, codes[name], printed = done.result()
            show(printed.rstrip())
    except BaseException:
        stopped.set()
        for process in list(running.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return codes

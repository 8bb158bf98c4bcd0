"""``make demo``: every kind of job, good and bad, through real workers, and each outcome beside what was expected.

It uses the broker that OTPOST_BROKER_URL names, else a private RabbitMQ. Exit status 0: all was as expected and
nothing is left running; 1: not so, with the differences shown and the logs kept; 130: interrupted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cases import CASES
from otpost import OtpostError
from otpost.urls import visible_url
from processes import DemoFailed
from showing import Show
from story import Stage, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cases import Case

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from private_rabbitmq import PrivateRabbitMQ, PrivateRabbitMQError  # noqa: E402 - a tool of the checkout, no package

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_LAST_LINES: Final = 8
_LINE_WIDTH: Final = 400


def main(cases: Sequence[Case] = CASES) -> int:
    """Run the demo and return its exit status."""
    show = Show()
    folder = Path(tempfile.mkdtemp(prefix="otpost-demo-"))
    logs = folder / "logs"
    logs.mkdir()
    node = None if os.environ.get("OTPOST_BROKER_URL") else PrivateRabbitMQ()
    status = 1
    try:
        with _ended_by_signals():
            status = 0 if asyncio.run(_play(show, _broker(show, node), folder, cases, is_shared=node is None)) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        show.say("\nInterrupted.")
        status = 130
    except (DemoFailed, OtpostError, PrivateRabbitMQError) as error:
        show.say()
        show.wrong(str(error))
    finally:
        _deaf()
        if not _clear_up(show, node, folder, logs, failed=status == 1):
            status = 1
    if status == 0:
        _farewell(show)
    return status


def _broker(show: Show, node: PrivateRabbitMQ | None) -> str:
    show.say(
        "[bold]otpost[/] sends one-time passwords from RabbitMQ jobs over WhatsApp. No message leaves this machine."
    )
    show.step("What is started")
    if node is None:
        url = os.environ["OTPOST_BROKER_URL"]
        show.done(f"the broker that OTPOST_BROKER_URL names: {visible_url(url)}")
        return url
    with show.busy("  starting a private RabbitMQ"):
        node.start()
    show.done(f"a private RabbitMQ on port {node.port}")
    return node.amqp_url


async def _play(show: Show, url: str, folder: Path, cases: Sequence[Case], *, is_shared: bool) -> bool:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - inside asyncio.run
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with AsyncExitStack() as resources:
        stage = await Stage.set_up(show, url, folder, resources, is_shared=is_shared, quieten=_deaf)
        return await tell(stage, cases)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the other ways to be asked to end do what Ctrl-C does."""
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    yield


def _deaf() -> None:
    """From here on everything is bounded and only clears up: nothing may interrupt it."""
    for number in (signal.SIGINT, *_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def _clear_up(show: Show, node: PrivateRabbitMQ | None, folder: Path, logs: Path, *, failed: bool) -> bool:
    """End the node and remove the files, but for the logs of a demo that failed; tell whether all of it is gone."""
    gone = True
    if node is not None:
        group = node.group if node.is_running else None
        node.close()
        gone = group is None or not _group_is_alive(group)
        if not gone:
            show.wrong(f"the private RabbitMQ (process group {group}) still runs")
    if failed and any(log.stat().st_size for log in logs.iterdir()):
        for path in folder.iterdir():
            if path != logs:
                path.unlink()
        _show_logs(show, logs)
    else:
        shutil.rmtree(folder)
    return gone


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that has only zombies left
        return False
    return True


def _show_logs(show: Show, logs: Path) -> None:
    show.say(f"\nThe logs are kept in {logs}. They end with:")
    for log in sorted(logs.iterdir()):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        if lines:
            show.command(f"tail {log.name}", "\n".join(line[:_LINE_WIDTH] for line in lines))


def _farewell(show: Show) -> None:
    show.say(f"\n[bold green]All as expected[/], after {show.elapsed_s():.0f} s. Nothing is left running.")
    show.say("\nWhat to try next:")
    for command, what in (
        ("less README.md", "the first job in Python and in Node; the settings"),
        (".venv/bin/otpost send --help", "publish a job and wait for its result"),
        ("less docs/simulator.md", "the numbers that make the simulator fail"),
        ("make test", "the checks and the tests"),
    ):
        show.say(f"  [cyan]{command:<30}[/] {what}")


if __name__ == "__main__":
    sys.exit(main())

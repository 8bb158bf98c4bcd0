"""A real `otpost webhook` process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from forked import fork_otpost
from worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

APP_SECRET: Final = "an-app-secret-of-tests"
VERIFY_TOKEN: Final = "a-verify-token-of-tests"


@asynccontextmanager
async def webhook_process(broker_url: str, *, port: int = 0) -> AsyncIterator[tuple[WorkerProcess, str]]:
    """Run a receiver that stores what comes; give it and where it listens. It is killed if it still runs in the end."""
    environment = {
        "OTPOST_BROKER_URL": broker_url,
        "OTPOST_APP_SECRET": APP_SECRET,
        "OTPOST_VERIFY_TOKEN": VERIFY_TOKEN,
        "OTPOST_WEBHOOK_PORT": str(port),
        "OTPOST_LOG_FORMAT": "json",
    }
    process = WorkerProcess(await fork_otpost("webhook", environment=environment))
    try:
        await process.logged("webhook.listening")
        bound = next(entry["port"] for entry in process.log if entry["event"] == "webhook.listening")
        await process.logged("storing")
        yield process, f"http://127.0.0.1:{bound}/webhook"
    finally:
        await process.clear_away()

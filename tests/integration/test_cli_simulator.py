"""`otpost simulator --webhook-url`: what it needs, and that it reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from command import otpost_here, started_otpost
from send_requests import send_request
from service import PATIENCE_S
from simulator_caller import PATIENCE, SEND, TOKEN
from webhook_receiver import SECRET, WebhookReceiver

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("in_a_file", [False, True], ids=["from the environment", "from a file"])
async def test_it_reports_by_webhook_where_it_is_told_to(tmp_path: Path, *, in_a_file: bool) -> None:
    # While secrets change the receiver knows several: the first one signs.
    held = f"{SECRET}, another-secret\n"
    (tmp_path / "secret").write_text(held, encoding="utf-8")
    environment = {"OTPOST_APP_SECRET": "unused" if in_a_file else held}
    arguments = ["--app-secret-file", str(tmp_path / "secret")] if in_a_file else []
    async with WebhookReceiver() as receiver:
        command = ["simulator", "--port", "0", "--webhook-url", receiver.url, "--webhook-plan", "sent_only", *arguments]
        async with started_otpost(*command, environment=environment) as process:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                url = (await process.stdout.readline()).decode().strip()
            async with (
                aiohttp.ClientSession(timeout=PATIENCE) as session,
                session.post(url + SEND, json=send_request(), headers=TOKEN) as answer,
            ):
                assert answer.status == 200
            (post,) = await receiver.wait(1)
    assert post.genuine
    assert [status["status"] for status in post.statuses()] == ["sent"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--webhook-url", "http://127.0.0.1:1/"], "--webhook-url needs the app secret: set OTPOST_APP_SECRET"),
        (["--webhook-url", "http://127.0.0.1:1/", "--app-secret-file", "/nowhere"], "/nowhere cannot be read as text"),
        (["--webhook-plan", "slow"], "there is no plan 'slow'; there are delivered, read"),
    ],
)
def test_what_is_missing_is_said_before_it_listens(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = otpost_here("simulator", *arguments, environment={}, monkeypatch=monkeypatch, capsys=capsys)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_an_address_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"OTPOST_APP_SECRET": SECRET}
    arguments = ("simulator", "--webhook-url", "127.0.0.1:8081")
    done = otpost_here(*arguments, environment=environment, monkeypatch=monkeypatch, capsys=capsys)
    assert done.status == 2
    assert "--webhook-url: url must begin with http:// or https://" in done.err
    assert SECRET not in done.err

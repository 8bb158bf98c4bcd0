"""Nothing leaked by webhooks: receiver and worker log at DEBUG while everything that a webhook can say is said to them.

A webhook holds numbers: the recipient's, a stranger's who writes, the business's own, and one inside each message's id.
It may hold a code where an error repeats it, or a user sends it back. None of that may be read anywhere but in the
queue, nor may the secrets: of the app, of the handshake, of the sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from otpost import OtpJob, PrivateKey, Producer
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import DEAD, STREAM, Amqp
from sinks import PATIENCE_S, Sinks, Subject, command_line, port_of, scrape, subject
from webhook_requests import signed
from worker_process import worker_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

APP_SECRET: Final = "Ap9sEcReT-8f2c7b1e"
VERIFY_TOKEN: Final = "vErIfY-t0k3n-55d1"
ACCESS_TOKEN: Final = "EAAG-aCc3sS-77ab09"
SECRETS: Final = {"app secret": APP_SECRET, "verify token": VERIFY_TOKEN, "access token": ACCESS_TOKEN}
KEY: Final = PrivateKey(bytes(range(32)))
# Which number makes the simulator report what: docs/simulator.md.
TOLD: Final = {
    "read": ("+990315{:06}", "read"),
    "delivered": ("+990305{:06}", "delivered"),
    "delivered after all": ("+990375{:06}", "delivered"),
    "tried again": ("+9911310161{:04}", "delivered"),
    "undelivered": ("+9911310260{:04}", "undelivered"),
    "user limit": ("+9911310490{:04}", "retrying"),
    "held": ("+990445{:06}", "delivered"),
    "answer lost": ("+990031{:06}", "delivered"),
}


@contextlib.asynccontextmanager
async def process(command: str, environment: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as written:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "otpost", command),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        yield started
        started.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await started.wait() == 0
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


def talkative(one: Subject, callback: str) -> dict[str, Any]:
    """A failure whose words repeat what they should not, and a stranger's answer that does so too."""
    words = f"Message {one.code} to {one.to} (+{one.digits[:4]} {one.digits[4:]}) failed"
    error = {"code": 131051, "title": words, "message": words, "error_data": {"details": words}, "href": words}
    status = {
        "id": f"wamid.{one.code}", "status": "failed", "timestamp": "1790000000", "recipient_id": one.digits,
        "biz_opaque_callback_data": callback, "errors": [error],
    }  # fmt: skip
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": one.digits, "phone_number_id": "106540352242922"},
        "contacts": [{"profile": {"name": f"{one.code} \ud83d"}, "wa_id": one.digits}],
        "messages": [
            {"from": one.digits, "id": f"wamid.in.{one.code}", "type": "text", "text": {"body": one.code}},
            {"from": one.digits, "id": "wamid.in", "type": "button", "button": {"payload": one.code, "text": one.code}},
        ],
        "statuses": [status, {"status": "read", "id": f"wamid.{one.code}"}, one.code],
        "errors": [error],
        one.code: one.to,
    }  # fmt: skip


async def tell_everything(simulator: Simulator, one: Subject, sent: dict[str, Subject]) -> None:
    """Post whatever else a webhook may say."""
    webhooks = simulator.webhooks
    told: list[dict[str, object]] = [
        {"kind": "not_requested", "callback": sent["delivered"].id},
        {"kind": "preference", "to": one.to, "value": "stop"},
        {"kind": "template_status", "name": "other", "event": "PAUSED", "description": f"for {one.to}"},
        {"kind": "template_status", "name": "other", "event": "DISABLED", "reason": "ABUSIVE_CONTENT"},
        {"kind": "template_status", "name": "other", "event": "APPROVED"},
        {"kind": "template_category", "name": "other", "new_category": "MARKETING", "previous_category": "UTILITY"},
        {"kind": "template_quality", "name": "other", "new": "RED", "previous": "GREEN"},
        {"kind": "account", "event": "ACCOUNT_VIOLATION", "violation_type": "SPAM"},
        {"kind": "number", "event": "FLAGGED", "current_limit": "TIER_1K"},
        {"kind": "change", "field": "messages", "value": talkative(one, sent["delivered"].id)},
        {"kind": "change", "field": "messages", "value": talkative(one, f"{one.code}/{one.digits}")},
        {"kind": "change", "field": "of_tomorrow", "value": {one.to: one.code}},
        {"kind": "change", "field": "account_alerts", "value": {"alert_type": "X", "alert_description": one.to}},
    ]
    for what in told:
        kind = str(what.pop("kind"))
        posting = await webhooks.tell({kind: what})
        assert posting.answer == 200, (kind, posting)


async def knock(url: str, one: Subject) -> None:
    """Be refused in every way, with what nobody may repeat."""
    body = one.body()
    forged = {"X-Hub-Signature-256": f"sha256={one.code}"}
    right = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": VERIFY_TOKEN}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        async with session.get(url, params=right) as answer:
            assert answer.status == 200
        async with session.get(url, params=right | {"hub.verify_token": one.code, "to": one.to}) as answer:
            assert answer.status == 403
        for headers, data, status in (
            (forged, body, 401),
            ({}, body, 401),
            (signed(body[:-1], APP_SECRET), body[:-1], 400),
            (signed(body, APP_SECRET) | {"Content-Encoding": one.code}, body, 415),
        ):
            async with session.post(url, data=data, headers=headers) as answer:
                assert answer.status == status
        async with session.post(f"{url}/{one.code}/{one.digits}?{VERIFY_TOKEN}", data=body) as answer:
            assert answer.status == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/", maxsplit=1)[0]))
    writer.write(f"{one.code} {one.to}\r\nAuthorization: {VERIFY_TOKEN} {APP_SECRET}\r\n\r\n".encode())
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_no_code_number_or_secret_is_in_any_log_metric_result_or_file_while_webhooks_come(
    vhost: Vhost, tmp_path: Path
) -> None:
    sinks = Sinks()
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    logs = {name: tmp_path / f"{name}.log" for name in ("worker", "webhook")}
    people = {what: subject(what, to) for what, (to, _) in TOLD.items()}
    stranger = subject("stranger")
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator, Amqp.connect(vhost.url) as amqp:
        environment = worker_environment(
            vhost, ledger, simulator.url, private_keys=KEY.reveal(), http_port=0, log_level="debug", http_timeout_s=2,
            app_secret=APP_SECRET, verify_token=VERIFY_TOKEN, access_token=ACCESS_TOKEN, webhook_port=0,
        )  # fmt: skip
        async with process("worker", environment, logs["worker"]) as worker:
            await vhost.wait_for_queue("otpost.webhooks", consumers=1, timeout_s=PATIENCE_S)
            tap = await amqp.tap(STREAM)
            async with process("webhook", environment, logs["webhook"]) as receiver:
                port = await asyncio.to_thread(port_of, logs["webhook"], "webhook.listening")
                url = f"http://127.0.0.1:{port}/webhook"
                simulator.webhooks.set(url=url, secret=APP_SECRET)
                async with Producer(vhost.url, public_key=KEY.public) as producer:
                    for one in people.values():
                        await producer.send(OtpJob(id=one.id, to=one.to, code=one.code, ttl_s=120))
                for what, (_, status) in TOLD.items():
                    await tap.wait_for(job_id=people[what].id, status=status, timeout_s=PATIENCE_S)
                await tell_everything(simulator, stranger, people)
                await knock(url, stranger)
                await tap.wait_for(name="code_not_requested", timeout_s=PATIENCE_S)
                await tap.wait_for(name="resumed", template="other", timeout_s=PATIENCE_S)
                await vhost.wait_for_queue("otpost.webhooks", ready=0, unacked=0, timeout_s=PATIENCE_S)
                await vhost.wait_for_ready(DEAD, 2)
                for name, running in (("worker", worker), ("webhook", receiver)):
                    await scrape(logs[name], sinks, f" of the {name}")
                    sinks.add(f"the {name}'s command line", await asyncio.to_thread(command_line, running.pid))
        for seen in tap.seen:
            sinks.add("results", orjson.dumps(seen.body | {"provider_message_id": None}))
            sinks.add("headers of results", seen.message.info())
        for letter in await asyncio.to_thread(vhost.get, DEAD, 100, requeue=True):
            sinks.add("headers of dead letters", letter.headers)
        wamids = [entry.wamid for entry in simulator.journal.entries() if entry.wamid is not None]
    for name, log in logs.items():
        sinks.add(f"the {name}'s log", log.read_bytes())
    sinks.add("the broker's log", "\n".join(path.read_text() for path in vhost.node.folder.rglob("*.log")))

    everybody = [*people.values(), stranger]
    assert sinks.leaks(everybody) == []
    assert sinks.holding(SECRETS) == []
    # Of a message's id its last 8 characters may be seen, where one asks for them.
    tails = {wamid: wamid[-9:] for wamid in wamids}
    assert len(tails) >= len(TOLD)
    readable = Sinks({name: text for name, text in sinks.texts.items() if "log" in name or name.startswith("/")})
    assert readable.holding(tails) == []
    # The ledger holds ids and the jobs' numbers, for as long as it has to; no code, which came sealed, no secret.
    in_files = Sinks()
    for file in ledger.iterdir():
        in_files.add(file.name, file.read_bytes())
    assert in_files.holding({one.id: one.code for one in everybody} | SECRETS) == []
    # The search would find something: each sink has what it should have.
    assert [name for name, text in sinks.texts.items() if not text.strip()] == []
    assert people["delivered"].id in in_files.texts["ledger.db"] + in_files.texts.get("ledger.db-wal", "")
    assert sinks.texts["the webhook's log"].count("webhook.refused") >= 6
    assert sinks.texts["the worker's log"].count("webhook.ignored") >= 2
    assert "otpost-reason" in sinks.texts["headers of dead letters"]
    assert 'otpost_webhook_requests_total{result="stored"}' in sinks.texts["/metrics of the webhook"]
    assert "otpost_webhook_reports_total" in sinks.texts["/metrics of the worker"]

"""`otpost results`: to the stream's very end, or for ever, whatever becomes of the connection or of the reader."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson
import pytest

from chaos.proxy import Proxy, Unwatched
from command import finished, otpost, started_otpost
from otpost import Producer
from otpost.rabbitmq import ConnectionLost
from otpost.results import read_kept_results
from published_results import accepted_result, closing, publish_event, publish_results
from service import PATIENCE_S, STREAM, Amqp, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost

# Class and method of basic.consume-ok and of basic.ack, as they are on the wire.
CONSUME_OK: Final = b"\x00\x3c\x00\x15"
ACK: Final = b"\x00\x3c\x00\x50"


@pytest.fixture
async def amqp(vhost: Vhost) -> AsyncIterator[Amqp]:
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as connected:
        yield connected


def result(job_id: str, **changes: object) -> bytes:
    fields = orjson.loads(accepted_result(0))
    return orjson.dumps(fields | {"job_id": job_id, "event_id": f"{job_id}/1/1/accepted"} | changes)


async def kept(vhost: Vhost, since: datetime | None = None) -> list[str]:
    async with asyncio.timeout(PATIENCE_S):
        return [str(one.job_id) async for one in read_kept_results(vhost.url, since or "first", timeout_s=PATIENCE_S)]


async def test_all_that_the_stream_holds_is_read_in_its_order_and_then_there_is_an_end(
    vhost: Vhost, amqp: Amqp
) -> None:
    # Some in chunks of their own, and the last ones in one go.
    await publish_results(amqp, *range(30))
    ids = [f"late-{number}" for number in range(400)]
    await asyncio.gather(
        *(
            amqp.publish(
                result(job_id), exchange=STREAM, key="default.accepted", message_id=job_id, kind="otpost.result.v1"
            )
            for job_id in ids
        )
    )
    read = await kept(vhost)
    assert read[:30] == [f"job-{number}" for number in range(30)]
    assert sorted(read[30:]) == sorted(ids)


async def test_an_empty_stream_ends_at_once(vhost: Vhost, amqp: Amqp) -> None:
    del amqp
    begun = time.monotonic()
    assert await kept(vhost) == []
    # It takes two seconds to be sure of it; the time-out is far longer.
    assert time.monotonic() - begun < 20


async def test_where_nothing_is_young_enough_nothing_is_read(vhost: Vhost, amqp: Amqp) -> None:
    await publish_results(amqp, 1, 2)
    assert await kept(vhost, datetime.now(UTC) + timedelta(hours=1)) == []


class Cutting(Unwatched):
    """Breaks all connections once *method* has gone by on the one of that *number*."""

    def __init__(self, number: int, method: bytes) -> None:
        self._number = number
        self._method = method
        self.proxy: Proxy | None = None

    def asked(self, connection: int, data: bytes) -> None:
        self._meet(connection, data, 0)

    def answered(self, connection: int, data: bytes) -> None:
        # Only once the client, which is a process of its own, has had the time to read it.
        self._meet(connection, data, 0.1)

    def _meet(self, connection: int, data: bytes, delay_s: float) -> None:
        if connection == self._number and self._method in data and self.proxy is not None:
            asyncio.get_running_loop().call_later(delay_s, self.proxy.cut)


@asynccontextmanager
async def lossy(vhost: Vhost, number: int, method: bytes) -> AsyncIterator[str]:
    """The URL of a broker from which the connection is lost so."""
    cutting = Cutting(number, method)
    port = urlsplit(vhost.url).port
    assert port is not None
    async with Proxy(port, cutting) as proxy:
        cutting.proxy = proxy
        yield vhost.url.replace(f":{port}/", f":{proxy.port}/")


@pytest.mark.parametrize(
    ("published", "method"), [([], CONSUME_OK), ([1, 2], ACK)], ids=["before the last chunk", "within the last chunk"]
)
async def test_a_connection_that_is_lost_while_the_end_is_looked_for_is_an_error_and_no_end(
    vhost: Vhost, amqp: Amqp, published: list[int], method: bytes
) -> None:
    await publish_results(amqp, *published)
    async with lossy(vhost, 1, method) as url:
        done = await otpost("results", "--json", environment={"OTPOST_BROKER_URL": url})
    assert (done.status, done.out) == (1, "")
    assert done.err == "otpost: the results stopped before the end of the stream; read them again\n"


async def test_a_connection_that_is_lost_before_the_first_result_does_not_mean_that_none_is_young_enough(
    vhost: Vhost, amqp: Amqp
) -> None:
    await publish_results(amqp, 1, 2)
    since = datetime.now(UTC) + timedelta(hours=1)
    async with lossy(vhost, 2, CONSUME_OK) as url, asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectionLost, match="read them again"):
            await anext(read_kept_results(url, since, timeout_s=PATIENCE_S))


async def test_results_are_filtered_by_status_sender_and_age(vhost: Vhost, amqp: Amqp) -> None:
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    for job_id, changes in {
        "good": {},
        "old": {"at": old},
        "foreign": {"sender": "de"},
        "late": {"status": "expired", "event_id": "late/1/1/expired"},
    }.items():
        body = result(job_id, **changes)
        await amqp.publish(body, exchange=STREAM, key="any.thing", message_id=job_id, kind="otpost.result.v1")
    environment = {"OTPOST_BROKER_URL": vhost.url}
    options = [
        [],
        ["--since", "2h"],
        ["--sender", "de"],
        ["--sender", "de", "--sender", "default", "--status", "accepted", "--since", "2h"],
        ["--status", "read"],
        ["--since", "0s"],
    ]
    all_done = await asyncio.gather(
        *(otpost("results", "--json", *chosen, environment=environment) for chosen in options)
    )
    assert [(done.status, done.err) for done in all_done] == [(0, "")] * 6
    assert [[one["job_id"] for one in done.objects] for done in all_done] == [
        ["good", "old", "foreign", "late"],
        ["good", "foreign", "late"],
        ["foreign"],
        ["good", "foreign"],
        [],
        [],
    ]


@pytest.mark.parametrize("options", [[], ["-f", "--since", "1h"]])
async def test_a_result_that_cannot_be_read_is_warned_of_once_and_the_others_are_printed(
    vhost: Vhost, amqp: Amqp, options: list[str]
) -> None:
    body = result("odd", status="seen", event_id="odd/1/1/seen")
    await publish_results(amqp, 1)
    await amqp.publish(body, exchange=STREAM, key="default.seen", message_id="odd/1/1/seen", kind="otpost.result.v1")
    await amqp.publish(b'{"new": "format"}', exchange=STREAM, key="default.accepted", kind="otpost.result.v2")
    await publish_results(amqp, 2)
    environment = {"OTPOST_BROKER_URL": vhost.url}
    async with started_otpost("results", "--json", *options, environment=environment) as process:
        async with asyncio.timeout(PATIENCE_S):
            lines = [await process.stdout.readline() for _ in range(2)]
        if options:
            process.send_signal(signal.SIGINT)
        done = await finished(process)
    assert [orjson.loads(line)["job_id"] for line in lines] == ["job-1", "job-2"]
    assert done.status == (130 if options else 0)
    assert done.err.rstrip("\n") == (
        "otpost: the message 'odd/1/1/seen' says that it is an otpost.result.v1, but cannot be read as one: does "
        "something newer, or somebody else, publish results here? It is left out"
    )


NOT_REQUESTED: Final = {
    "event_id": "job-1/1/1/code_not_requested", "name": "code_not_requested", "job_id": "job-1",
    "detail": "the recipient says that they did not ask for this code: let it expire",
}  # fmt: skip
OF_A_TEMPLATE: Final = {
    "event_id": "de/login/en_US/halted/1", "sender": "de", "template": "login", "language": "en_US",
    "error": {"kind": "template", "code": 132015, "title": "The template is PAUSED"},
}  # fmt: skip
SLOWED: Final = {
    "event_id": "default/slowed/1", "name": "slowed",
    "detail": "40 messages a second from now on, growing back step by step",
    "error": {"kind": "throughput", "code": 130429, "title": "Rate limit hit", "detail": "Message failed to send"},
}  # fmt: skip


async def test_what_happened_to_senders_stands_between_the_results_where_it_is_asked_for(
    vhost: Vhost, amqp: Amqp
) -> None:
    await publish_event(amqp, at=datetime.now(UTC) - timedelta(hours=3))
    await publish_results(amqp, 1)
    await publish_event(amqp, **NOT_REQUESTED)
    await publish_event(amqp, **OF_A_TEMPLATE)
    await publish_results(amqp, 2)
    options = [
        [],
        ["--events"],
        ["--events", "--status", "failed"],
        ["--events", "--sender", "default", "--since", "1h"],
        ["--events", "--sender", "de"],
        ["--status", "accepted"],
    ]
    environment = {"OTPOST_BROKER_URL": vhost.url}
    all_done = await asyncio.gather(
        *(otpost("results", "--json", *chosen, environment=environment) for chosen in options)
    )
    assert [(done.status, done.err) for done in all_done] == [(0, "")] * 6
    old, first, second = "default/halted/1", "job-1/1/1/accepted", "job-2/1/1/accepted"
    not_requested, template = "job-1/1/1/code_not_requested", "de/login/en_US/halted/1"
    assert [[one["event_id"] for one in done.objects] for done in all_done] == [
        [first, second],
        [old, first, not_requested, template, second],
        [old, not_requested, template],
        [first, not_requested, second],
        [template],
        [first, second],
    ]
    # What has a name is an event, and what has a status a result.
    assert [(one.get("name"), one.get("status")) for one in all_done[1].objects] == [
        ("halted", None), (None, "accepted"), ("code_not_requested", None), ("halted", None), (None, "accepted"),
    ]  # fmt: skip
    [of_template] = all_done[4].objects
    assert of_template.pop("at").endswith("Z")
    assert of_template == {
        "event_id": "de/login/en_US/halted/1", "sender": "de", "name": "halted", "template": "login",
        "language": "en_US", "job_id": None, "detail": None,
        "error": {
            "kind": "template", "code": 132015, "title": "The template is PAUSED", "detail": None,
            "http_status": None, "provider_trace_id": None,
        },
    }  # fmt: skip


async def test_a_line_for_people_tells_what_happened_to_which_sender_and_why(vhost: Vhost, amqp: Amqp) -> None:
    await publish_event(amqp, **NOT_REQUESTED)
    await publish_event(amqp, **OF_A_TEMPLATE)
    await publish_event(amqp, **SLOWED)
    await publish_event(amqp, event_id="default/resumed/1", name="resumed", template="t" * 512, detail="[red]")
    done = await otpost("results", "--events", environment={"OTPOST_BROKER_URL": vhost.url})
    assert (done.status, done.err) == (0, "")
    times, lines = zip(*(line.split("  ", 1) for line in done.out.splitlines()), strict=True)
    assert [len(time_of_day) for time_of_day in times] == [len("23:31:30.000")] * 4
    assert list(lines) == [
        (
            "code_not_requested  default  the recipient says that they did not ask for this code: let it expire  "
            "job job-1"
        ),
        "halted     de  login (en_US)  template 132015: The template is PAUSED",
        (
            "slowed     default  40 messages a second from now on, growing back step by step  throughput 130429: "
            "Message failed to send"
        ),
        f"resumed    default  {'t' * 512}  [red]",
    ]


@pytest.mark.parametrize("events", [["--events"], []])
async def test_what_happens_to_senders_is_followed_and_what_cannot_be_read_of_it_is_warned_of_if_it_is_asked_for(
    vhost: Vhost, amqp: Amqp, events: list[str]
) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    await publish_results(amqp, 1)
    async with started_otpost("results", "-f", "--since", "1h", "--json", *events, environment=environment) as process:
        async with asyncio.timeout(PATIENCE_S):
            lines = [await process.stdout.readline()]
            await amqp.publish(
                b'{"name": "sold"}', exchange=STREAM, key="default.event.sold", message_id="default/sold/1",
                kind="otpost.event.v1",
            )  # fmt: skip
            await publish_event(amqp)
            await publish_results(amqp, 2)
            lines += [await process.stdout.readline() for _ in ([1, 2] if events else [2])]
        process.send_signal(signal.SIGINT)
        done = await finished(process)
    ids = [orjson.loads(line)["event_id"] for line in lines]
    if events:
        assert ids == ["job-1/1/1/accepted", "default/halted/1", "job-2/1/1/accepted"]
        assert done.err.rstrip("\n") == (
            "otpost: the message 'default/sold/1' says that it is an otpost.event.v1, but cannot be read as one: does "
            "something newer, or somebody else, publish events here? It is left out"
        )
    else:
        assert ids == ["job-1/1/1/accepted", "job-2/1/1/accepted"]
        assert done.err.strip() == ""


async def test_what_comes_while_the_connection_is_lost_is_read_even_if_nothing_was_read_before(
    vhost: Vhost, amqp: Amqp
) -> None:
    await publish_results(amqp, 1)
    async with closing(Producer(vhost.url).results(since="next")) as results:
        first = asyncio.ensure_future(anext(results))
        await vhost.wait_for_queue(STREAM, consumers=1, timeout_s=PATIENCE_S)
        await vhost.wait_for_connections(1, "otpost results")
        assert await asyncio.to_thread(vhost.close_connections, "otpost results") == 1
        await publish_results(amqp, 2)
        async with asyncio.timeout(PATIENCE_S):
            seen = [(await first).job_id]
            while "job-2" not in seen:
                seen.append((await anext(results)).job_id)
    assert seen[-1] == "job-2"


async def test_a_reader_of_the_output_that_goes_away_ends_it_quietly(vhost: Vhost, amqp: Amqp) -> None:
    environment = {"OTPOST_BROKER_URL": vhost.url}
    await publish_results(amqp, 1)
    for options in (["--json"], []):
        async with started_otpost("results", "-f", "--since", "1h", *options, environment=environment) as process:
            async with asyncio.timeout(PATIENCE_S):
                assert b"job-1" in await process.stdout.readline()
            process.read_no_more()
            await publish_results(amqp, 2)
            done = await finished(process)
        assert (done.status, done.err) == (1, "")

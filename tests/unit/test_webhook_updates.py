"""A webhook's body taken apart: what goes side by side, what comes again by itself, and what is given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from otpost_worker.metrics import Metrics
from otpost_worker.updates import AccountChange, MessageReport, NotRequested, Posted, Reported
from otpost_worker.webhook_updates import PAUSES_AFTER_CRASH_S, WebhookUpdates
from ports_in_memory import Fate, RecordingBroker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpost_worker.updates import Update

PATIENCE_S: Final = 60.0
ACCOUNT: Final = AccountChange("1", "DISABLED_UPDATE", None, None, 1_790_000_000.0)
NOT_REQUESTED: Final = NotRequested("wamid.b", 1_790_000_000.0)


def report(job: str, status: str = "delivered") -> MessageReport:
    return MessageReport(Reported(status), "wamid.a", job, 1_790_000_000.0)


UNWRITABLE: Final = report("unwritable")


class Poison(Exception):
    """What nobody has thought of; its text holds what nobody may read."""


class Taking:
    """Bodies of updates, and what was heard of them."""

    def __init__(self, *updates: Update, hear: Callable[[Update, Posted], Awaitable[None]] | None = None) -> None:
        self.heard: list[tuple[Update, str]] = []
        self.poisonous: set[Update] = set()
        self.broker = RecordingBroker(Fate(), lambda *_: None)
        self.metrics = Metrics(["default"])
        self._updates = updates
        self._written: dict[bytes, MessageReport] = {}
        self._posts = WebhookUpdates(
            read=self._read,
            write=self._write,
            job_of=lambda one: one.callback,
            hear=hear or self._hear,
            broker=self.broker,
            observer=self.metrics,
        )

    def _read(self, body: bytes) -> tuple[Update, ...]:
        if body == b"unreadable":
            raise Poison("code 493817")
        return (self._written[body],) if body in self._written else self._updates

    def _write(self, one: MessageReport) -> bytes:
        if one == UNWRITABLE:
            raise Poison("code 493817")
        self._written[repr(one).encode()] = one
        return repr(one).encode()

    async def _hear(self, update: Update, posted: Posted) -> None:
        await asyncio.sleep(0)
        if update in self.poisonous:
            raise Poison("code 493817")
        self.heard.append((update, posted.token))

    async def take(self, posted: Posted) -> list[tuple[Posted, float]]:
        """Take a body; returns what comes again, and in how many seconds."""
        self.broker.postponed.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self._posts.take(posted)
        return list(self.broker.postponed)

    def counted(self, what: str) -> float:
        return self.metrics.registry.get_sample_value("otpost_webhook_reports_total", {"what": what}) or 0.0


async def test_one_update_that_crashes_costs_no_other_and_comes_again_by_itself_as_the_very_same() -> None:
    bad = report("job-2")
    taking = Taking(report("job-1"), bad, report("job-3"), ACCOUNT)
    taking.poisonous = {bad}
    with capture_logs() as lines:
        [(again, pause_s)] = await taking.take(Posted(b"whole", "post-1"))
    assert sorted(token for _, token in taking.heard) == ["post-1/0", "post-1/2", "post-1/3"]
    assert (again.token, again.tries, again.only, pause_s) == ("post-1/1", 1, (), 1.0)
    assert again.body != b"whole"
    [line] = lines
    assert "test_webhook_updates:" in line.pop("where")
    assert line == {
        "event": "update.crashed", "log_level": "error", "error": "Poison", "updates": 1, "kinds": ["MessageReport"],
        "job_id": "job-2", "tries": 1, "again_in_s": 1.0,
    }  # fmt: skip
    assert taking.counted("crashed") == 1
    # Mended, it has the token that it had in its body: what its first try wrote down is known for its own.
    taking.poisonous.clear()
    assert await taking.take(again) == []
    assert taking.heard[-1] == (bad, "post-1/1")


async def test_what_is_no_report_comes_again_with_its_body_of_which_nothing_else_is_heard_then() -> None:
    taking = Taking(report("job-1"), NOT_REQUESTED, ACCOUNT, report("job-2"))
    taking.poisonous = {NOT_REQUESTED, ACCOUNT}
    [(again, _)] = await taking.take(Posted(b"whole", "post-1"))
    assert again == Posted(b"whole", "post-1", 1, (1, 2))
    taking.poisonous = {ACCOUNT}
    taking.heard.clear()
    [(later, pause_s)] = await taking.take(again)
    assert taking.heard == [(NOT_REQUESTED, "post-1/1")]
    assert (later, pause_s) == (Posted(b"whole", "post-1", 2, (2,)), 2.0)


async def test_the_pauses_grow_and_end_and_then_it_is_given_up_aloud() -> None:
    bad = report("job-1")
    taking = Taking(bad, ACCOUNT)
    taking.poisonous = {bad}
    posted, pauses = Posted(b"whole", "post-1"), []
    with capture_logs() as lines:
        while comes_again := await taking.take(posted):
            [(posted, pause_s)] = comes_again
            pauses.append(pause_s)
    assert pauses == [1, 2, 4, 8, 15, 30, 60, 120, 600, 3600]
    assert posted.tries == len(PAUSES_AFTER_CRASH_S)
    last = lines[-1]
    assert (last["event"], last["log_level"], last["error"], last["job_id"], last["tries"]) == (
        "update.given_up", "error", "Poison", "job-1", 11,
    )  # fmt: skip
    assert (taking.counted("crashed"), taking.counted("given_up")) == (10, 1)
    assert "493817" not in str(lines)


async def test_a_body_that_crashes_whoever_reads_it_comes_again_and_is_given_up_too() -> None:
    taking = Taking()
    posted, pauses = Posted(b"unreadable", "post-1"), []
    with capture_logs() as lines:
        while comes_again := await taking.take(posted):
            [(posted, pause_s)] = comes_again
            assert (posted.body, posted.token, posted.only) == (b"unreadable", "post-1", ())
            pauses.append(pause_s)
    assert pauses == list(PAUSES_AFTER_CRASH_S)
    assert (lines[0]["kinds"], lines[-1]["event"]) == (["body"], "update.given_up")
    assert "493817" not in str(lines)


async def test_once_it_can_be_read_each_of_its_updates_has_a_token_of_its_own() -> None:
    taking = Taking(report("job-1"), report("job-2"))
    assert await taking.take(Posted(b"whole", "post-1", 3)) == []
    assert sorted(token for _, token in taking.heard) == ["post-1/0", "post-1/1"]


async def test_a_report_of_which_no_body_can_be_made_comes_again_with_its_own() -> None:
    taking = Taking(report("job-1"), UNWRITABLE)
    taking.poisonous = {UNWRITABLE}
    [(again, _)] = await taking.take(Posted(b"whole", "post-1"))
    assert again == Posted(b"whole", "post-1", 1, (1,))
    taking.poisonous.clear()
    assert await taking.take(again) == []
    assert taking.heard[-1] == (UNWRITABLE, "post-1/1")


async def test_numbers_that_no_update_has_are_nothing() -> None:
    taking = Taking(report("job-1"))
    assert await taking.take(Posted(b"whole", "post-1", 1, (0, 7))) == []
    assert [token for _, token in taking.heard] == ["post-1/0"]


async def test_a_thousand_that_crash_of_one_cause_are_one_line() -> None:
    many = [report(f"job-{number}") for number in range(1000)]
    taking = Taking(*many, ACCOUNT)
    taking.poisonous = {*many, ACCOUNT}
    with capture_logs() as lines:
        comes_again = await taking.take(Posted(b"whole", "post-1"))
    assert [(line["event"], line["updates"], line["kinds"]) for line in lines] == [
        ("update.crashed", 1001, ["AccountChange", "MessageReport"])
    ]
    assert Counter(posted.tries for posted, _ in comes_again) == {1: 1001}
    assert len({posted.token for posted, _ in comes_again}) == 1001


async def test_reports_of_one_job_keep_their_order_and_those_of_others_go_beside_them() -> None:
    begun, most = Counter[str](), 0
    order: list[MessageReport] = []
    full = asyncio.Event()

    async def hear(update: Update, _: Posted) -> None:
        nonlocal most
        assert isinstance(update, MessageReport)
        job = str(update.callback)
        begun[job] += 1
        most = max(most, begun.total())
        assert begun[job] == 1
        if begun.total() == 8:
            full.set()
        # Nobody goes on before as many are under way as may be.
        await full.wait()
        order.append(update)
        begun[job] -= 1

    updates = [report(f"job-{number % 20}", status) for status in ("sent", "delivered", "read") for number in range(20)]
    await Taking(*updates, hear=hear).take(Posted(b"whole", "post-1"))
    assert most == 8
    for number in range(20):
        of_job = [one.status.value for one in order if one.callback == f"job-{number}"]
        assert of_job == ["sent", "delivered", "read"]


async def test_a_body_that_is_given_back_half_way_leaves_nothing_running() -> None:
    stuck, ended = asyncio.Event(), Counter[str]()
    begun = asyncio.Event()

    async def hear(_: Update, posted: Posted) -> None:
        begun.set()
        try:
            await stuck.wait()
        finally:
            ended[posted.token] += 1

    taking = Taking(*(report(f"job-{number}") for number in range(100)), hear=hear)
    working = asyncio.ensure_future(taking.take(Posted(b"whole", "post-1")))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert (len(ended), taking.broker.postponed) == (8, [])
    assert asyncio.all_tasks() == {asyncio.current_task()}

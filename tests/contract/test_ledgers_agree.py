"""Whatever is asked of them in whatever order, all ledgers say the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Final

from ledger_implementations import Memory, Redis, Sqlite
from ports_in_memory import NOW, Clock
from reported_course import ReportedCourse

if TYPE_CHECKING:
    from pathlib import Path

    from private_redis import PrivateRedis

COURSES: Final = 30
MOVES: Final = 30
MOVES_THERE_ARE: Final = (
    *[ReportedCourse.claim] * 6,
    *[ReportedCourse.record] * 5,
    *[ReportedCourse.go_on] * 6,
    *[ReportedCourse.report] * 6,
    *[ReportedCourse.amend, ReportedCourse.pass_time] * 4,
    *[ReportedCourse.come_again, ReportedCourse.outlive] * 3,
    *[ReportedCourse.claim_again, ReportedCourse.lapse, ReportedCourse.release] * 2,
    *[ReportedCourse.note_buried, ReportedCourse.hear] * 2,
    ReportedCourse.conclude,
    ReportedCourse.refuse,
    ReportedCourse.find,
    ReportedCourse.probe_soon,
    ReportedCourse.watch,
    ReportedCourse.set_clock_back,
    ReportedCourse.be_forgotten,
)


async def test_all_ledgers_give_the_same_replies_to_any_course_of_things(
    tmp_path: Path, redis_server: PrivateRedis
) -> None:
    clock = Clock(NOW)
    implementations = {"sqlite": Sqlite(tmp_path / "ledger.db"), "redis": Redis(redis_server), "memory": Memory()}
    async with AsyncExitStack() as resources:
        ledgers = {
            name: await resources.enter_async_context(implementation.open(clock))
            for name, implementation in implementations.items()
        }
        for seed in range(COURSES):
            # What the course before this one has left is forgotten.
            clock.reach(clock.now + 2 * 24 * 3600)
            await asyncio.gather(*(ledger.forget() for ledger in ledgers.values()))
            course = ReportedCourse(ledgers, clock, Random(seed), f"course-{seed}")  # noqa: S311 - to be repeated
            for _ in range(MOVES):
                await course.some(MOVES_THERE_ARE)(course)
                await course.look()
            await course.look_at_all()

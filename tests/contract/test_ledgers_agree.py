"""Whatever is asked of them in whatever order, all ledgers say the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger_implementations import Memory, Redis, Sqlite
from ports_in_memory import NOW, Clock
from reported_course import ReportedCourse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from hypothesis.strategies import DataObject

    from ledger_implementations import OpenLedger
    from private_redis import PrivateRedis

EXAMPLES: Final = 30
MOVES: Final = (10, 30)
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


def test_all_ledgers_give_the_same_replies_to_any_course_of_things(tmp_path: Path, redis_server: PrivateRedis) -> None:
    clock, numbers = Clock(NOW), count()
    implementations = {"sqlite": Sqlite(tmp_path / "ledger.db"), "redis": Redis(redis_server), "memory": Memory()}

    async def follow(course: ReportedCourse, moves: int) -> None:
        for _ in range(moves):
            await course.some(MOVES_THERE_ARE)(course)
            await course.look()
        await course.look_at_all()

    async def forget(ledgers: Iterable[OpenLedger]) -> None:
        await asyncio.gather(*(ledger.forget() for ledger in ledgers))

    with asyncio.Runner() as runner:
        resources = AsyncExitStack()

        async def open_all() -> dict[str, OpenLedger]:
            return {
                name: await resources.enter_async_context(implementation.open(clock))
                for name, implementation in implementations.items()
            }

        ledgers = runner.run(open_all())

        # Without shrinking, which takes minutes here: the failure tells the whole course.
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def run(data: DataObject) -> None:
            # What the course before this one has left is forgotten.
            clock.reach(clock.now + 2 * 24 * 3600)
            runner.run(forget(ledgers.values()))
            course = ReportedCourse(ledgers, clock, data, f"course-{next(numbers)}")
            runner.run(follow(course, data.draw(st.integers(*MOVES))))

        try:
            run()
        finally:
            runner.run(resources.aclose())

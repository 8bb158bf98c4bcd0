"""What a caller puts around the application's ports stands between its rooms and the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from otpost_worker.wrapping import Wrappers
from service import job_body, running_service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker import Vhost

ARROWS: Final = {"claim", "send", "record", "publish_event", "bury", "note_buried", "acknowledge"}


class Watched:
    """Passes everything on, and notes the arrows in the order in which they are done."""

    def __init__(self, port: Any, seen: list[str]) -> None:  # noqa: ANN401 - any port
        self._port = port
        self._seen = seen

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the port has
        attribute = getattr(self._port, name)
        return self._noting(name, attribute) if name in ARROWS else attribute

    def _noting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def noting(*arguments: Any) -> Any:  # noqa: ANN401 - the port's own
            self._seen.append(name)
            return await call(*arguments)

        return noting


@pytest.mark.parametrize(
    ("to", "end", "arrows"),
    [
        ("+12025550187", "accepted", ["claim", "send", "record", "publish_event"]),
        ("+99913102600001", "failed", ["claim", "send", "record", "publish_event", "bury", "note_buried"]),
    ],
)
async def test_wrappers_see_each_arrow_of_a_job_once_and_in_the_promised_order(
    vhost: Vhost, tmp_path: Path, to: str, end: str, arrows: list[str]
) -> None:
    seen: list[str] = []

    def watch(port: Any) -> Any:  # noqa: ANN401 - any port
        return Watched(port, seen)

    wrappers = Wrappers(ledger=watch, broker=watch, provider=watch, settling=watch)
    async with running_service(vhost, tmp_path, wrappers=wrappers) as service:
        await service.publish(job_body(to=to))
        await service.wait_for_result("job-1", end)
    assert seen == [*arrows, "acknowledge"]


async def test_a_wrapped_clock_is_the_one_that_deadlines_are_judged_by(vhost: Vhost, tmp_path: Path) -> None:
    wrappers = Wrappers(clock=lambda clock: lambda: clock() + 3600)
    async with running_service(vhost, tmp_path, wrappers=wrappers) as service:
        await service.publish(job_body(ttl_s=300))
        await service.wait_for_result("job-1", "expired")
        assert service.requests() == 0

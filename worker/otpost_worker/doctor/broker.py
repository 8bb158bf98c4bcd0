"""The broker: its version, what is declared on it, who consumes, and what waits that should not [pure]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, assert_never

from otpost.differences import Trouble
from otpost.topology import DEAD, DROPPED, job_queue
from otpost_worker.doctor.facts import NotAsked
from otpost_worker.doctor.findings import in_two, listed, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otpost.declaring import QueueState
    from otpost.differences import Finding as Difference
    from otpost_worker.doctor.facts import BrokerFacts
    from otpost_worker.doctor.findings import Finding

# At-least-once dead-lettering had faults up to this one: the wrong replica (4.3.1), stuck after changes of
# membership (4.3.3), and what came to light until 4.3.5.
_UNSAFE: Final = ((4, 3, 0), (4, 3, 5))
_REPLACE: Final = (
    "arguments cannot be changed: stop who uses it, let it run empty, delete it, and run 'otpost topology declare'"
)


def unreachable(where: str, message: str) -> Finding:
    """Judge a broker that does not let us in, from one of our own messages."""
    what, remedy = in_two(message.removeprefix(f"{where}: "), otherwise="check OTPOST_BROKER_URL")
    return problem("broker", where, what, remedy)


def judge_broker(facts: BrokerFacts, senders: Iterable[str], *, passive: bool) -> list[Finding]:
    """Judge everything that AMQP tells; *passive*: somebody else provides the queues."""
    return [
        judge_version(facts),
        *_judge_differences(facts, passive=passive),
        *_judge_queues(facts, senders),
    ]


def judge_version(facts: BrokerFacts) -> Finding:
    """Judge which broker it is; one that is too old has refused us before."""
    told = f"{facts.product} {facts.version}"
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", facts.version)
    if facts.product != "RabbitMQ":
        return warning(
            "broker", facts.where, f"it answers as {told}", "otpost is made for RabbitMQ, and tested with nothing else"
        )
    if numbers is None:
        return warning("broker", facts.where, f"{told} answers", "see that it is 3.10 or later: its version is unusual")
    first, mended = _UNSAFE
    if first <= (int(numbers[1]), int(numbers[2]), int(numbers[3])) < mended:
        return warning(
            "broker",
            facts.where,
            f"{told} answers; of 4.3, versions before 4.3.5 may lose or hold up what waits in the delay ladder",
            "upgrade to 4.3.5 or later",
        )
    return ok("broker", facts.where, f"{told} answers")


def _judge_differences(facts: BrokerFacts, *, passive: bool) -> Iterator[Finding]:
    differences = facts.differences
    if isinstance(differences, NotAsked):
        yield warning("topology", facts.where, *in_two(differences.why, otherwise="try again"))
        return
    by_trouble: dict[Trouble, list[Difference]] = {}
    for difference in differences:
        by_trouble.setdefault(difference.trouble, []).append(difference)
    for trouble, those in by_trouble.items():
        yield from _judge_trouble(facts.where, trouble, those, passive=passive)
    if not differences:
        yield ok("topology", facts.where, "every exchange and queue is there, with the arguments that it needs")


def _judge_trouble(where: str, trouble: Trouble, those: Sequence[Difference], *, passive: bool) -> Iterator[Finding]:
    names = listed([f"{one.kind} {one.name}" for one in those])
    match trouble:
        case Trouble.MISSING:
            yield problem("topology", where, f"missing: {names}", "'otpost topology declare' makes what is missing")
        case Trouble.UNCHECKED:
            remedy = "give the user the right to configure 'otpost.*'"
            yield warning("topology", where, f"not compared: {names} ({those[0].detail})", remedy)
        case Trouble.DIFFERS:
            # What somebody else provides may differ on purpose.
            judge = warning if passive else problem
            yield from (judge("topology", one.name, str(one), _REPLACE) for one in those)
        case _:
            assert_never(trouble)


def _judge_queues(facts: BrokerFacts, senders: Iterable[str]) -> Iterator[Finding]:
    queues = facts.queues
    if isinstance(queues, NotAsked):
        yield warning("queues", facts.where, *in_two(queues.why, otherwise="try again"))
        return
    for sender in senders:
        yield from _judge_job_queue(job_queue(sender), queues)
    if (dead := queues.get(DEAD)) is not None and dead.ready:
        what = "1 dead letter waits" if dead.ready == 1 else f"{dead.ready} dead letters wait"
        yield warning(
            "dead letters", DEAD, what, "'otpost dead list' shows them, 'otpost dead replay' sends them again"
        )
    if (dropped := queues.get(DROPPED)) is not None and dropped.ready:
        yield _judge_dropped(dropped)


def _judge_job_queue(name: str, queues: Mapping[str, QueueState | None]) -> Iterator[Finding]:
    state = queues.get(name)
    if state is None:  # which is told where the topology is
        return
    waiting = f"{state.ready} {'job waits' if state.ready == 1 else 'jobs wait'}"
    if state.consumers:
        yield ok("consumers", name, f"consumed by {state.consumers}; {waiting}")
    else:
        yield problem(
            "consumers", name, f"nobody consumes it; {waiting}", "start 'otpost worker', or see what its log says"
        )


def _judge_dropped(state: QueueState) -> Finding:
    what = f"{state.ready} messages that the broker gave up on wait to be ended"
    if state.consumers:
        return warning("dropped", DROPPED, what, "workers end them; if they stay, see the workers' log")
    return problem("dropped", DROPPED, what, "any worker ends them properly: start 'otpost worker'")

"""What the ledger tells of a job whose messages are reported on, and what follows from a report, in few words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost_worker.attempts import State
from otpost_worker.decision import Policy
from otpost_worker.envelope import Event, Letter, Next, Step, Watch
from otpost_worker.outcome import Error, Kind, Refused
from otpost_worker.ports import REMEMBERED_AFTER_DEADLINE_S
from otpost_worker.statuses import Follow, Heard, Terms, Verdict, follow
from otpost_worker.stories import Amendment, AttemptStory, Hearing, JobStory, Report, RunStory
from ports_in_memory import NOW, envelope

if TYPE_CHECKING:
    from otpost_worker.envelope import Envelope

# The job was made at NOW; its deadline is 300 s later, and everything here is judged 10 s later.
TERMS: Final = Terms(
    now=NOW + 10,
    random=1.0,
    policy=Policy(),
    provider="in memory",
    watch_s=630.0,
    cover=lambda it: replace(it, body=b"covered"),
)
RECIPIENT: Final = Error(Kind.RECIPIENT, 131026, "Undeliverable")
USER_LIMIT: Final = Error(Kind.USER_LIMIT, 131049, "Not delivered")
HALTED: Final = Error(Kind.SENDER_HALTED, 131042, "Payment")
LETTER: Final = Letter("recipient", "{}", 1, "2026-11-23T20:00:09.000Z")


def event(event_id: str, *, latency_ms: int | None = 1000) -> Event:
    """An event that was told a second after the job was made."""
    _, run, attempt, status = event_id.split("/")
    told: dict[str, Any] = {
        "event_id": event_id, "job_id": "job-1", "sender": "default", "status": status, "run": int(run),
        "attempt": int(attempt), "at": "2026-11-23T20:00:01.000Z", "provider": "first told", "to": "12*******31",
        "latency_ms": latency_ms, "ref": None,
    }  # fmt: skip
    return Event(event_id, status, orjson.dumps(told))


def attempt(number: int = 1, state: State = State.SETTLED, **fields: Any) -> AttemptStory:  # noqa: ANN401 - those of the story
    known = AttemptStory(number, state, None, NOW, NOW + 1, None, None, None, None)
    return replace(known, **fields)


RETRYING: Final = Step(event("job-1/1/1/retrying"), Next(2, 1, NOW + 6))
TAKEN: Final = attempt(provider_message_id="wamid.1")
LOST: Final = attempt(state=State.UNKNOWN, kind=Kind.UNKNOWN, step=RETRYING, due_at=NOW + 6)
ACCEPTED: Final = Step(event("job-1/1/1/accepted"), watch=Watch(1, 1, NOW + 631))


def story(
    *attempts: AttemptStory,
    end: Step | None = None,
    of: Envelope | None = None,
    others: tuple[RunStory, ...] = (),
    **run: Any,  # noqa: ANN401 - those of the run
) -> JobStory:
    ended_at = NOW + 1 if end is not None else None
    forget_at = NOW + 300 + REMEMBERED_AFTER_DEADLINE_S
    known = RunStory(
        1, of or envelope(), ended_at, end, buried=False, forget_at=forget_at, turn=None, attempts=attempts
    )
    return JobStory("job-1", (replace(known, **run), *others), "version")


def heard(hearing: Hearing, *, after_s: float = 4.0, token: str = "post-1", error: Error | None = None) -> Heard:  # noqa: S107 - no secret
    return Heard(hearing, NOW + after_s, token, "wamid.told", Refused(error) if error else None)


def arrived(known: JobStory, hearing: Hearing = Hearing.DELIVERED, *, of: int = 1, **fields: Any) -> Follow:  # noqa: ANN401 - those of Heard
    verdict = follow(heard(hearing, **fields), known, 1, of, TERMS)
    assert isinstance(verdict, Follow)
    return verdict


def failed(known: JobStory, error: Error = RECIPIENT, *, of: int = 1, terms: Terms = TERMS, **fields: Any) -> Follow:  # noqa: ANN401 - those of Heard
    verdict = follow(heard(Hearing.FAILED, error=error, **fields), known, 1, of, terms)
    assert isinstance(verdict, Follow)
    return verdict


def amendment_of(verdict: Follow) -> Amendment:
    assert verdict.amendment is not None
    return verdict.amendment


def told(verdict: Verdict) -> list[str]:
    """Every step in words, its moments in seconds after the job was made."""
    assert isinstance(verdict, Follow)
    return [_words(step) for step in verdict.steps]


def _words(step: Step) -> str:
    words = [step.event.id.removeprefix("job-1/1/") if step.event else "silently"]
    words += [f"attempt {step.next.attempt} at {step.next.due_at - NOW:g}"] if step.next else []
    words += [f"letter {step.letter.reason}"] if step.letter else []
    words += [f"looked at {step.watch.due_at - NOW:g}"] if step.watch else []
    return ", ".join(words)


def body_of(verdict: Follow, number: int = 0) -> dict[str, Any]:
    found = verdict.steps[number].event
    assert found is not None
    body: dict[str, Any] = orjson.loads(found.body)
    return body


DELIVERED: Final = {Hearing.DELIVERED: Report(NOW + 3, "post-0")}
FAILURE: Final = {Hearing.FAILED: Report(NOW + 3, "post-0", USER_LIMIT)}

"""A small run in which every promise was kept, written by hand: what the checker's tests break, one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson

from chaos.checker.evidence import Evidence, Job, Letter, Life, Passing, Reported, Request, Result, Terms, Unanswered

# 2026-11-23T20:00:00Z
NOW: Final = 1_795_464_000.0
NUMBER: Final = "12025550187"
OTHER_NUMBER: Final = "12025550188"
CODE: Final = "Zk3vQp81Lw"
WAMID: Final = "wamid.HBgLMTIwMjU1NTAxODcVAgARGBI4Qzc5QUJDREVGMTIzNDU2AA=="
PID: Final = 4711


def job(**changes: Any) -> Job:  # noqa: ANN401 - those of Job
    fields: dict[str, Any] = {
        "id": "good-1",
        "kind": "good",
        "sender": "default",
        "to": NUMBER,
        "code": CODE,
        "wanted": ("accepted",),
        "published_at": NOW,
        "deadline": NOW + 60,
    }
    return Job(**(fields | changes))


def result(offset: int, job_id: str | None, status: str, **changes: Any) -> Result:  # noqa: ANN401 - fields of a result
    run, attempt = changes.get("run", 1), changes.get("attempt", 1)
    event = {
        "event_id": f"{job_id or '~4f2a'}/{run}/{attempt}/{status}",
        "job_id": job_id,
        "sender": "default",
        "status": status,
        "run": run,
        "attempt": attempt,
        "at": "2026-11-23T20:00:01.000Z",
        "provider_message_id": WAMID if status == "accepted" else None,
        "to": "12*******87",
        "error": None,
    } | changes
    return Result(offset, "otpost.result.v1", orjson.dumps(event).decode(), "no secrets here")


def failure(kind: str, code: int | None = None) -> dict[str, object]:
    return {"kind": kind, "code": code}


def request(seq: int, callback: str, **changes: Any) -> Request:  # noqa: ANN401 - those of Request
    fields: dict[str, Any] = {
        "seq": seq,
        "at": NOW + seq,
        "outcome": "accepted",
        "taken": True,
        "callback": callback,
        "to": f"+{NUMBER}",
        "code": CODE,
        "phone_number_id": "106540352242920",
        "recipient": NUMBER,
        "wamid": WAMID,
        "answered_at": NOW + seq + 0.1,
    }
    return Request(**(fields | changes))


def letter(job_id: str | None, reason: str, **changes: Any) -> Letter:  # noqa: ANN401 - those of Letter
    fields: dict[str, Any] = {"run": 1, "died_at": "2026-11-23T20:00:01.000Z", "body": "{}", "headers": "{}"}
    return Letter(job_id, reason=reason, **(fields | changes))


def passings(callback: str, seq: int, *, pid: int = PID, upto: str = "after record") -> tuple[Passing, ...]:
    """Make the way of one attempt, as far as `upto`."""
    job_id, _, rest = callback.partition("/")
    run, _, attempt = rest.partition("/")
    key: dict[str, Any] = {"job": job_id, "run": int(run or 1), "attempt": int(attempt or 1)}
    at = NOW + seq - 0.01
    who: dict[str, Any] = {"worker": "w1", "pid": pid}
    way = (
        Passing(at, at, point="after claim", result="Claimed", **who, **key),
        Passing(at, at, point="before request", callback=callback, **who),
        Passing(at, at, point="after request", callback=callback, result="Accepted", **who),
        Passing(at, at, point="after record", result="Noted", **who, **key),
    )
    points = [passing.point for passing in way]
    return way[: points.index(upto) + 1]


def clean_run() -> Evidence:
    """One job of each kind, and every end that there is."""
    return Evidence(
        Terms(seed=1, ledger="sqlite", timeout_s=2.0),
        jobs=(
            job(),
            job(id="lost-1", kind="lost", to=OTHER_NUMBER),
            job(id="nobody-1", kind="nobody", wanted=("failed recipient",)),
            job(id="stale-1", kind="stale", wanted=("expired",), deadline=NOW - 30),
            job(id=None, kind="not-json", wanted=("failed invalid_job",), deadline=None),
        ),
        requests=(
            request(1, "good-1"),
            request(2, "lost-1", outcome="cut_after", to=f"+{OTHER_NUMBER}", recipient=OTHER_NUMBER, wamid="wamid.1"),
            request(3, "nobody-1", outcome="error", taken=False, error_code=131026, wamid=None),
            request(9, "lost-1/1/2", to=f"+{OTHER_NUMBER}", recipient=OTHER_NUMBER),
        ),
        results=(
            result(0, "good-1", "accepted"),
            result(1, "lost-1", "retrying", error=failure("unknown")),
            result(2, "nobody-1", "failed", error=failure("recipient", 131026)),
            result(3, "stale-1", "expired"),
            result(4, None, "failed", error=failure("invalid_job")),
            result(5, "lost-1", "accepted", attempt=2),
        ),
        letters=(letter("nobody-1", "recipient"), letter(None, "invalid_job")),
        passings=(
            *passings("good-1", 1),
            *passings("lost-1", 2),
            *passings("nobody-1", 3),
            *passings("lost-1/1/2", 9),
        ),
        lives=(Life("w1", PID, NOW - 5, NOW + 30, 0, "term"),),
        unanswered=(Unanswered(NOW + 2, "lost-1"),),
    )


# The first whole second after the requests of the run below.
REPORTED_AT: Final = int(NOW) + 33


def report(seq: int, callback: str, status: str, **changes: Any) -> Reported:  # noqa: ANN401 - those of Reported
    fields: dict[str, Any] = {
        "seq": seq,
        "message_id": WAMID,
        "callback": callback,
        "status": status,
        "timestamp": REPORTED_AT,
        "first_answered_at": REPORTED_AT + 0.2,
    }
    return Reported(**(fields | changes))


def told(offset: int, job_id: str, status: str, **changes: Any) -> Result:  # noqa: ANN401 - fields of a result
    """Tell what was reported as of 33 s after NOW, of a job that was made at NOW + 30."""
    at = "2026-11-23T20:00:33.000Z"
    fields: dict[str, Any] = {"at": at, "provider_message_id": WAMID, "latency_ms": 3000}
    return result(offset, job_id, status, **(fields | changes))


def reported_run() -> Evidence:
    """Four jobs and what webhooks make of them: delivered, given up, tried again and delivered, never heard of."""
    names = ("told-1", "gone-1", "again-1", "silent-1")
    numbers = {name: f"1202555020{digit}" for digit, name in enumerate(names)}
    times = {"kind": "reported", "published_at": NOW + 30, "deadline": NOW + 90, "created_at": NOW + 30}
    late = "2026-11-23T20:00:42.000Z"
    sent = [*((name, name, 32) for name in names), ("again-1", "again-1/1/2", 35)]
    more = with_more(
        Evidence(Terms(seed=1, ledger="sqlite", timeout_s=2.0, check_s=10.0, check_of_held_s=5.0)),
        jobs=[job(id=name, to=numbers[name], **times) for name in names],
        requests=[
            request(20 + turn, callback, at=NOW + at_s, to=f"+{numbers[name]}", recipient=numbers[name])
            for turn, (name, callback, at_s) in enumerate(sent)
        ],
        reports=[
            report(1, "told-1", "sent"),
            report(2, "told-1", "delivered", planned=2, posts=3, answered=2),
            report(3, "gone-1", "failed", code=131026),
            report(4, "again-1", "failed", code=131016),
            report(5, "again-1/1/2", "delivered", timestamp=int(NOW) + 36, first_answered_at=NOW + 36.2),
        ],
        results=[
            *(told(10 + turn, name, "accepted", at="2026-11-23T20:00:32.000Z") for turn, name in enumerate(names)),
            told(14, "told-1", "sent"),
            told(15, "told-1", "delivered"),
            told(16, "gone-1", "undelivered", error=failure("recipient", 131026)),
            told(17, "again-1", "retrying", error=failure("unavailable", 131016)),
            told(18, "again-1", "accepted", attempt=2, at="2026-11-23T20:00:35.000Z"),
            told(19, "again-1", "delivered", attempt=2, at="2026-11-23T20:00:36.000Z", latency_ms=6000),
            told(20, "silent-1", "undelivered", at=late, error=failure("no_report"), latency_ms=12000),
        ],
        letters=[letter("gone-1", "recipient")],
        passings=[passing for _, callback, at_s in sent for passing in passings(callback, at_s)],
        lives=[Life("w1", PID, NOW - 5, NOW + 60, 0, "term"), Life("r1", 4720, NOW - 5, NOW + 60, 0, "term")],
    )
    return replace(more, answers={"200": 6, "503": 1}, secrets={"the app secret": "hush-1c9f"})


def without_result(evidence: Evidence, offset: int) -> Evidence:
    return replace(evidence, results=tuple(one for one in evidence.results if one.offset != offset))


def with_more(evidence: Evidence, **more: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Add to what there is."""
    changes: dict[str, Any] = {name: (*getattr(evidence, name), *added) for name, added in more.items()}
    return replace(evidence, **changes)

"""The fakes for users' own tests: what they answer, and what they remember."""

from __future__ import annotations

import pytest

from otpost import BrokerUnreachable, NoResult, Opener, OtpJob, OtpResult, PrivateKey, UnknownSender
from otpost.testing import RecordedJob, RecordingBlockingProducer, RecordingProducer, end_of

JOB = OtpJob(id="job-1", to="+12025550187", code="806274", ref={"order": 7})
FAILED = end_of(JOB, "failed", kind="recipient")


def test_an_end_looks_as_a_worker_would_tell_it() -> None:
    accepted = end_of(JOB)
    assert (accepted.job_id, accepted.status, accepted.event_id) == ("job-1", "accepted", "job-1/1/1/accepted")
    assert (accepted.to, accepted.ref, accepted.error) == ("12*******87", {"order": 7}, None)
    assert accepted.provider_message_id is not None
    assert OtpResult.parse(accepted.to_json()) == accepted
    assert FAILED.error is not None
    assert (FAILED.status, FAILED.error.kind, FAILED.provider_message_id) == ("failed", "recipient", None)


async def test_a_request_is_remembered_and_accepted_unless_told_otherwise() -> None:
    producer = RecordingProducer(sender="de")
    confirmed: list[OtpJob] = []
    told: list[OtpResult] = []
    end = await producer.request(JOB, on_confirmed=confirmed.append, on_result=told.append)
    assert (end.job_id, end.status) == ("job-1", "accepted")
    assert (producer.sent, confirmed, told) == ([RecordedJob(JOB, "de")], [JOB], [end])
    producer.answer = lambda job: end_of(job, "failed", kind="recipient")
    assert (await producer.request(JOB)).status == "failed"


async def test_a_request_can_be_told_to_go_without_an_end() -> None:
    producer = RecordingProducer()

    def silence(job: OtpJob) -> OtpResult:
        raise NoResult(job.id, 30)

    producer.answer = silence
    with pytest.raises(NoResult, match="job-1"):
        await producer.request(JOB)
    assert producer.jobs == [JOB]  # it is published all the same


def test_the_blocking_twin_remembers_and_answers_the_same() -> None:
    with RecordingBlockingProducer() as producer:
        confirmed: list[OtpJob] = []
        assert producer.send(JOB, reply_to="mine", correlation_id="c-1") == "job-1"
        assert producer.send_many(iter([JOB]), on_confirmed=confirmed.append) == ["job-1"]
        assert producer.request(JOB, sender="de").status == "accepted"
        producer.to_come.put(FAILED)
        assert next(producer.results(since="first")) == FAILED
        assert producer.sent == [
            RecordedJob(JOB, "default", "mine", "c-1"), RecordedJob(JOB, "default"), RecordedJob(JOB, "de"),
        ]  # fmt: skip
        assert confirmed == [JOB]
        with pytest.raises(UnknownSender, match="Not A Sender"):
            producer.send(JOB, sender="Not A Sender")


def test_the_blocking_twin_fails_as_told() -> None:
    producer = RecordingBlockingProducer()
    producer.fails_with = BrokerUnreachable("gone")
    for call in (lambda: producer.send(JOB), lambda: producer.request(JOB), lambda: producer.send_many([JOB])):
        with pytest.raises(BrokerUnreachable):
            call()
    with pytest.raises(BrokerUnreachable):
        producer.__enter__()
    producer.close()
    assert producer.sent == []


async def test_neither_fake_seals_so_that_a_test_sees_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    key = PrivateKey(b"k" * 32)
    monkeypatch.setenv("OTPOST_PUBLIC_KEY", str(key.public))
    producer, blocking = RecordingProducer(), RecordingBlockingProducer()
    await producer.send(JOB)
    blocking.send_many([JOB, JOB.sealed(key.public)])
    assert [job.code for job in (*producer.jobs, *blocking.jobs)] == ["806274", "806274", None]
    # What a service has sealed itself its test opens with a key of its own.
    sealed = blocking.jobs[1].sealed_code
    assert sealed is not None
    assert Opener([key]).open(sealed) == b"806274"

"""What the client raises."""

from __future__ import annotations

import pickle

import pytest

from otpost import (
    AccessRefused,
    BrokerUnreachable,
    InsideEventLoop,
    InvalidJob,
    InvalidKey,
    NoResult,
    NotConfirmed,
    OtpJob,
    OtpostError,
    Problem,
    ProducerClosed,
    QueueRefused,
    SealingUnavailable,
    UnknownSender,
)

ERRORS = [
    InvalidJob([Problem("to", "must be one phone number")]),
    UnknownSender("marketing"),
    ProducerClosed(),
    InsideEventLoop(),
    InvalidKey("private", "it is none", place=2),
    SealingUnavailable(),
    QueueRefused("there is no queue mine"),
    BrokerUnreachable("does RabbitMQ run there?", permanent=True),
    NotConfirmed(["job-1", "job-2"], "no confirm in time"),
    NotConfirmed(["job-1"], "the user may not", permanent=True),
    NoResult("job-1", 30.0),
]


def kinds() -> set[type[OtpostError]]:
    return {type(error) for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_out_of_another_process(error: OtpostError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is type(error)
    assert str(copy) == str(error) != ""
    assert vars(copy) == vars(error)


def test_the_error_of_a_wrong_job_holds_no_value_in_another_process_either() -> None:
    with pytest.raises(InvalidJob) as raised:
        OtpJob(to="+12015553931", code="806274 ")
    assert b"806274" not in pickle.dumps(raised.value)


def test_a_missing_result_is_a_time_out_and_names_its_job() -> None:
    error = NoResult("job-1", 2.5)
    assert isinstance(error, TimeoutError)
    assert error.job_id == "job-1"
    assert "no end of job job-1 within 2.5 s" in str(error)


def test_what_was_not_confirmed_tells_the_reason_of_one_job_once_for_all_of_them() -> None:
    one = NotConfirmed(["job-1"], "a queue refused the message")
    error = NotConfirmed.because(["job-1", "job-2"], one)
    assert (error.reason, error.permanent) == ("a queue refused the message", False)
    assert str(error) == (
        "the broker did not confirm 2 job(s) (job-1, job-2): a queue refused the message; the same ids may safely be "
        "sent again"
    )


def test_what_the_user_may_not_publish_is_not_to_be_sent_again_before_that_is_mended() -> None:
    error = NotConfirmed.because(["job-1"], AccessRefused("it needs the right to write"))
    assert (error.reason, error.permanent) == ("it needs the right to write", True)
    assert str(error).endswith(
        ": it needs the right to write; once that is mended, the same ids may safely be sent again"
    )
    assert not NotConfirmed.because(["job-1"], BrokerUnreachable("does RabbitMQ run there?")).permanent
    assert not NotConfirmed.because(["job-1"], ProducerClosed()).permanent

"""The producer for code without an event loop: Django, Flask, Celery, scripts."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

from otpost.batch import Batch
from otpost.client import Producer
from otpost.environment import sealing_key
from otpost.errors import InsideEventLoop, OtpostError, ProducerClosed
from otpost.topology import DEFAULT_SENDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Any

    from otpost.job import OtpJob
    from otpost.result import OtpResult
    from otpost.sealing import PublicKey

T = TypeVar("T")
_Since = Literal["first", "last", "next"]

_START_TIMEOUT_S: Final = 10.0
# Closing asks the broker to close, for 5 s at the most, and then ends the loop.
_STOP_TIMEOUT_S: Final = 10.0


class BlockingProducer:
    """A ``Producer`` whose calls block; safe to share between threads, and across a fork.

        with BlockingProducer() as producer:
            producer.send(OtpJob(to="+12015553931", code="493817", ttl_s=300))

    The arguments are those of ``Producer``, and so is what its calls raise. Without ``with`` the first call
    connects: make one on a module's level, use it everywhere. A thread of its own, which never keeps the process
    from ending, runs the event loop with the connection. A process that was forked off opens its own at its
    first call (gunicorn with preloading, Celery's prefork).
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        sender: str = DEFAULT_SENDER,
        timeout_s: float = 10.0,
        max_in_flight: int = 256,
        public_key: PublicKey | str | None = None,
    ) -> None:
        key = sealing_key(public_key)

        def make() -> Producer:
            return Producer(broker_url, sender=sender, timeout_s=timeout_s, max_in_flight=max_in_flight, public_key=key)

        self._make = make
        self._public_key = key
        self._max_in_flight = max_in_flight
        # Reentrant: a signal's handler may come in between, and the garbage collector.
        self._lock = threading.RLock()
        self._engine: _Engine | None = None
        self._closed = False
        _producers.add(self)

    def __enter__(self) -> Self:
        """Connect.

        :raises BrokerUnreachable: with what is wrong and what to do about it.
        """
        with self._lock:
            self._closed = False
        try:
            self._call(lambda producer: producer.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; what was confirmed stays published. Twice is as good as once.

        Calls that other threads still wait for raise ``ProducerClosed``, or ``NotConfirmed``.
        """
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()

    def send(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Publish one job and return its id once the broker has stored it; see ``Producer.send``."""
        job = self._sealed(job)
        return self._call(
            lambda producer: producer.send(job, sender=sender, reply_to=reply_to, correlation_id=correlation_id)
        )

    def send_many(
        self,
        jobs: Iterable[OtpJob],
        *,
        sender: str | None = None,
        on_confirmed: Callable[[OtpJob], None] | None = None,
    ) -> list[str]:
        """Publish many jobs, their confirms pipelined, and return their ids; see ``Producer.send_many``.

        *jobs* is read and *on_confirmed* called in the caller's thread, to which database connections may be bound.
        """
        batch = Batch(on_confirmed)
        in_flight: deque[tuple[OtpJob, Future[str]]] = deque()

        def settle(job: OtpJob, confirm: Future[str]) -> None:
            with batch.outcome_of(job):
                _outcome(confirm)

        # None at all: that only finds out whether the sender exists.
        self._call(lambda producer: producer.send_many((), sender=sender))
        engine = self._running()
        try:
            for job in jobs:
                if len(in_flight) >= self._max_in_flight:
                    settle(*in_flight.popleft())
                batch.ids.append(job.id)
                sealed = self._sealed(job)
                in_flight.append((sealed, engine.submit(_sending(sealed, sender))))
            while in_flight:
                settle(*in_flight.popleft())
        except Exception:
            # The caller's own, raised again when it is known which of the jobs under way are stored.
            while in_flight:
                with suppress(Exception):
                    settle(*in_flight.popleft())
            raise
        finally:
            for _, confirm in in_flight:
                confirm.cancel()
        return batch.stored_ids()

    def request(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        timeout_s: float = 30.0,
    ) -> OtpResult:
        """Publish one job and return its end, within *timeout_s* seconds; see ``Producer.request``."""
        job = self._sealed(job)
        return self._call(lambda producer: producer.request(job, sender=sender, timeout_s=timeout_s))

    def results(
        self,
        *,
        queue: str | None = None,
        since: datetime | timedelta | _Since = "next",
    ) -> Generator[OtpResult, None, None]:
        """Iterate over results as they come, for ever, or until it is closed; see ``Producer.results``."""
        return self._read(self._running(), queue, since)

    def _read(
        self, engine: _Engine, queue: str | None, since: datetime | timedelta | _Since
    ) -> Generator[OtpResult, None, None]:
        # An iteration that is given up, wherever that happens, closes this one: asyncio does so in the loop's thread.
        results = engine.producer.results(queue=queue, since=since)
        while True:
            yield _outcome(engine.submit(lambda _: _next(results)))

    def _sealed(self, job: OtpJob) -> OtpJob:
        """Seal in the caller's thread: nothing that waits for the loop holds the code."""
        return job.sealed(self._public_key) if self._public_key is not None else job

    def _call(self, call: Callable[[Producer], Coroutine[Any, Any, T]]) -> T:
        return _outcome(self._running().submit(call))

    def _running(self) -> _Engine:
        """Return this process's loop, with a thread that runs it.

        :raises ProducerClosed: for good. :raises InsideEventLoop: this thread must not wait.
        """
        if _in_event_loop():
            raise InsideEventLoop
        with self._lock:
            if self._closed:
                raise ProducerClosed
            if self._engine is None:
                self._engine = _Engine(self._make())
                # At the process's end too, so that the broker need not wonder where we have gone.
                weakref.finalize(self, self._engine.stop)
            return self._engine

    def forked(self) -> None:
        """Begin anew in a process that was forked off: no thread but the forking one has come along.

        What was inherited is left alone: it is the parent's, down to the socket.
        """
        self._lock = threading.RLock()
        self._engine = None


class _Engine:
    """An event loop with a producer, in a daemon thread."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self._pid = os.getpid()
        self._submitting = threading.RLock()
        self._stopped = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="otpost", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise OtpostError(
                f"the thread of a BlockingProducer did not start within {_START_TIMEOUT_S:g} s: "
                "does this server run Python's threads at all (uWSGI: --enable-threads)?"
            )

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._started.set()
        await self._stopping.wait()
        await self.producer.close()
        # What is still under way now, such as reading results, asyncio.run cancels.

    def submit(self, call: Callable[[Producer], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin *call* in the loop; its outcome is ``ProducerClosed`` where the loop is at its end."""
        # Under the lock, so that whatever is submitted is in the loop's list before the word to stop is.
        with self._submitting:
            if self._stopped:
                nothing: Future[T] = Future()
                nothing.set_exception(ProducerClosed())
                return nothing
            return asyncio.run_coroutine_threadsafe(call(self.producer), self._loop)

    def stop(self) -> None:
        """Close the connection and end the thread; twice is as good as once."""
        if self._pid != os.getpid():
            return  # a forked process: the thread and the connection are its parent's
        with self._submitting:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._stopping.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_TIMEOUT_S)


_producers: Final[weakref.WeakSet[BlockingProducer]] = weakref.WeakSet()


def _begin_anew_after_fork() -> None:
    for producer in _producers:
        producer.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_after_fork)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _outcome(future: Future[T]) -> T:
    """Wait for a call's outcome; its own time-outs bound the wait. Whoever interrupts it cancels the call."""
    try:
        return future.result()
    except CancelledError:
        raise ProducerClosed from None  # nobody else cancels it while we wait
    except BaseException:
        future.cancel()
        raise


def _sending(job: OtpJob, sender: str | None) -> Callable[[Producer], Coroutine[Any, Any, str]]:
    return lambda producer: producer.send(job, sender=sender)


async def _next(results: AsyncIterator[OtpResult]) -> OtpResult:
    return await anext(results)

"""otpost: one-time passwords over WhatsApp, published as jobs to RabbitMQ.

async with Producer() as producer:
    job_id = await producer.send(OtpJob(to="+12015553931", code="493817", ttl_s=300))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otpost.blocking import BlockingProducer
    from otpost.client import Producer
    from otpost.errors import (
        AccessRefused,
        BrokerUnreachable,
        InsideEventLoop,
        InvalidJob,
        InvalidKey,
        NoResult,
        NotConfirmed,
        OtpostError,
        Problem,
        ProducerClosed,
        QueueRefused,
        SealingUnavailable,
        UnknownSender,
    )
    from otpost.job import OtpJob, new_job_id
    from otpost.result import OtpResult, ResultError, Status, UnreadableResult
    from otpost.sealing import Opener, PrivateKey, PublicKey

__version__ = "0.1.0"

__all__ = [
    "AccessRefused",
    "BlockingProducer",
    "BrokerUnreachable",
    "InsideEventLoop",
    "InvalidJob",
    "InvalidKey",
    "NoResult",
    "NotConfirmed",
    "Opener",
    "OtpJob",
    "OtpResult",
    "OtpostError",
    "PrivateKey",
    "Problem",
    "Producer",
    "ProducerClosed",
    "PublicKey",
    "QueueRefused",
    "ResultError",
    "SealingUnavailable",
    "Status",
    "UnknownSender",
    "UnreadableResult",
    "__version__",
    "new_job_id",
]

_ROOMS: Final = {
    "blocking": ("BlockingProducer",),
    "client": ("Producer",),
    "job": ("OtpJob", "new_job_id"),
    "result": ("OtpResult", "ResultError", "Status", "UnreadableResult"),
    "sealing": ("Opener", "PrivateKey", "PublicKey"),
}
_ROOM_OF: Final = {name: room for room, names in _ROOMS.items() for name in names}


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        """Import a name's room when it is first asked for (PEP 562): pydantic and AMQP take 0.1 s each to load."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_ROOM_OF.get(name, 'errors')}"), name)
        globals()[name] = found  # the next look finds it there
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""otpost: one-time passwords over WhatsApp, published as jobs to RabbitMQ.

async with Producer() as producer:
    job_id = await producer.send(OtpJob(to="+12015553931", code="493817", ttl_s=300))
"""

from otpost.client import Producer
from otpost.errors import BrokerUnreachable, InvalidJob, NotConfirmed, OtpostError, Problem, UnknownSender
from otpost.job import OtpJob, new_job_id
from otpost.rabbitmq import QueueRefused
from otpost.result import OtpResult, ResultError, Status, UnreadableResult

__version__ = "0.1.0"

__all__ = [
    "BrokerUnreachable",
    "InvalidJob",
    "NotConfirmed",
    "OtpJob",
    "OtpResult",
    "OtpostError",
    "Problem",
    "Producer",
    "QueueRefused",
    "ResultError",
    "Status",
    "UnknownSender",
    "UnreadableResult",
    "__version__",
    "new_job_id",
]

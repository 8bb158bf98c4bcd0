"""RabbitMQ: deliveries in; results, the delay ladder and dead letters out.

Two connections, so that a broker which blocks publishers (no memory, no disk) does not hold up acknowledgements.
Both come back by themselves. Neither is aio-pika's "robust" kind: that one cancels the handlers of a connection
that is lost, and a cancelled request is a code sent twice.
"""

from __future__ import annotations

from otpost_worker.brokers.rabbitmq.intake import Incoming, Intake, Subscription
from otpost_worker.brokers.rabbitmq.messages import envelope_of
from otpost_worker.brokers.rabbitmq.outbox import Outbox
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting

__all__ = ["Incoming", "Intake", "Outbox", "Reconnecting", "Subscription", "envelope_of"]

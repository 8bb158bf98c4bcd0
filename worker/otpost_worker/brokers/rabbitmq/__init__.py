"""RabbitMQ: deliveries in; results, the delay ladder and dead letters out.

Two connections, so that a broker which blocks publishers (no memory, no disk) does not hold up acknowledgements.
Both come back by themselves. Neither is aio-pika's "robust" kind: that one cancels the handlers of a connection
that is lost, and a cancelled request is a code sent twice.
"""

"""Takes events in from RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.events.facts import PLATFORM_TENANT
from penstock.ports.clock import Clock
from penstock.ports.events import Arrival
from penstock.use_cases.take_events import arrival_of_message
from resources.control_db.inbox import SqlInbox
from resources.delivery.rabbitmq import Message, RabbitConsumer

_WAIT_S = 0.5
_NO_BROKER_S = 60.0
_consumers: dict[int, RabbitConsumer] = {}


def run_once(services: Services) -> bool | float:
    """Take what has come, or comes within half a second; what is committed is acknowledged."""
    url, queue = services.settings.rabbitmq_url, services.settings.rabbitmq_queue
    if url is None or queue is None:
        return _NO_BROKER_S
    key = id(services)
    if key not in _consumers:
        _consumers[key] = RabbitConsumer(url=url, queue=queue)
    accept = partial(take_in, SqlInbox.from_engine(services.engine), services.clock)
    _consumers[key].take(accept, wait_s=_WAIT_S)
    return True


def take_in(inbox: SqlInbox, clock: Clock, messages: Sequence[Message]) -> int:
    """Store messages as events; one that is none is kept with what is wrong with it."""
    now = clock.now()
    arrivals = [_arrival(message, clock) for message in messages]
    return inbox.accept(arrivals, received_from="rabbitmq", now=now)


def _arrival(message: Message, clock: Clock) -> Arrival:
    try:
        body: object = json.loads(message.body)
    except (ValueError, RecursionError):
        body = None
    return arrival_of_message(
        body,
        raw=message.body,
        content_type=message.content_type,
        headers=message.headers,
        sender=PLATFORM_TENANT,
        now=clock.now(),
    )


def close(services: Services) -> None:
    """Close the connection; what is not acknowledged goes back to the queue."""
    consumer = _consumers.pop(id(services), None)
    if consumer is not None:
        consumer.close()


loop = Loop(name="event_broker", run_once=run_once, close=close)

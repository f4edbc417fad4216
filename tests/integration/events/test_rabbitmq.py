"""RabbitMQ, a real one: events go out confirmed, come in once, and neither is lost when the broker dies."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pika
import pytest
from pydantic import SecretStr

from penstock.errors import InvalidIdentifier
from penstock.events.catalogue import example
from penstock.events.delivery import DestinationKind
from penstock.events.facts import PLATFORM_TENANT
from penstock.ports.events import Arrival, InboxStatus
from penstock.use_cases.take_events import arrival_of_message
from resources.control_db.inbox import SqlInbox
from resources.control_db.store import SqlControlStore
from resources.delivery.rabbitmq import BrokerUnreachable, Message, RabbitConsumer
from tests.contracts.control_values import NOW
from tests.contracts.event_values import new_event, tell
from tests.fixtures.rabbitmq import Broker
from tests.integration.events.world import World

PERSISTENT = pika.BasicProperties(
    delivery_mode=pika.DeliveryMode.Persistent, content_type="application/cloudevents+json"
)


class Peer:
    """Another system at the same broker."""

    def __init__(self, url: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def bind(self, exchange: str, queue: str) -> None:
        """Have a durable queue of all that an exchange is sent."""
        self.channel.exchange_declare(exchange, "topic", durable=True)
        self.channel.queue_declare(queue, durable=True)
        self.channel.queue_bind(queue, exchange, "#")

    def send(self, queue: str, *bodies: Any) -> None:
        """Put messages into a queue."""
        self.channel.queue_declare(queue, durable=True)
        for body in bodies:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.channel.basic_publish("", queue, raw, PERSISTENT)

    def all_of(self, queue: str) -> list[dict[str, Any]]:
        """Take everything that a queue has."""
        found = []
        while True:
            method, _, body = self.channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append(json.loads(body))


def envelope(number: int, subject: str = "s") -> dict[str, Any]:
    """An event that comes in."""
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "/collector",
        "type": "archive_discovered",
        "subject": subject,
        "data": example("archive_discovered"),
    }


def accepting(inbox: SqlInbox) -> Any:
    """What a consumer hands messages to."""

    def accept(messages: Sequence[Message]) -> int:
        return inbox.accept([_arrival(m) for m in messages], received_from="rabbitmq", now=NOW)

    return accept


def take_something(consumer: RabbitConsumer, accept: Any) -> None:
    """Wait until there is something to take, and take it."""
    while not consumer.take(accept, wait_s=5):
        pass


def _arrival(message: Message) -> Arrival:
    try:
        body: object = json.loads(message.body)
    except ValueError:
        body = None
    return arrival_of_message(
        body,
        raw=message.body,
        content_type=message.content_type,
        headers=message.headers,
        sender=PLATFORM_TENANT,
        now=NOW,
    )


def test_events_go_out_by_a_durable_exchange(
    rabbitmq_url: str, control_store: SqlControlStore
) -> None:
    """An exchange is sent what happens, in order, as CloudEvents; its messages name their event."""
    world, exchange = World(control_store, rabbitmq_url), f"penstock.{uuid4().hex}"
    with Peer(rabbitmq_url) as peer:
        peer.bind(exchange, exchange)
    world.add("bus", exchange, kind=DestinationKind.RABBITMQ)
    told = tell(control_store, *(new_event(str(number)) for number in range(20)))
    dispatcher = world.dispatcher()
    world.run_until(
        lambda: world.directory.destinations.get("bus").cursor >= told[-1].cursor, dispatcher
    )
    dispatcher.close()
    with Peer(rabbitmq_url) as peer:
        assert [each["id"] for each in peer.all_of(exchange)] == [each.event_id for each in told]


def test_an_exchange_s_name_is_checked(control_store: SqlControlStore) -> None:
    """The broker's own exchanges, and the nameless one that leads to every queue, are not taken."""
    world = World(control_store)
    for bad in ("amq.topic", "", "a b", "x" * 128):
        with pytest.raises(InvalidIdentifier):
            world.add("bus", bad, kind=DestinationKind.RABBITMQ)


def test_a_broker_that_is_not_there_is_an_answer(control_store: SqlControlStore) -> None:
    """Without a broker, or with one that refuses, an event is not taken, and no password is said."""
    for broker, said in (
        (None, "PENSTOCK_RABBITMQ_URL"),
        ("amqp://u:hush@127.0.0.1:1/", "reached"),
    ):
        world = World(control_store, broker)
        delivering, sender = world.delivering()
        (event, *_) = tell(control_store, new_event())
        if broker is None:
            world.add("bus", "events", kind=DestinationKind.RABBITMQ)
        answer = sender.send(delivering.destinations.get("bus"), event, ())
        assert said in (answer.error or "")
        assert "hush" not in repr(answer)
        sender.close()
    with pytest.raises(BrokerUnreachable) as refused:
        RabbitConsumer(url=SecretStr("amqp://u:hush@127.0.0.1:1/"), queue="q").take(
            print, wait_s=0.1
        )
    assert "hush" not in str(refused.value)


def test_events_come_in_once(rabbitmq_url: str, control_store: SqlControlStore) -> None:
    """What is sent twice is kept once; what is no event is kept with what is wrong, and holds up nothing."""
    inbox, queue = SqlInbox.from_engine(control_store.engine), f"in.{uuid4().hex}"
    with Peer(rabbitmq_url) as peer:
        peer.send(queue, envelope(1), b"no JSON", envelope(2), envelope(1))
    consumer = RabbitConsumer(url=SecretStr(rabbitmq_url), queue=queue)
    taken = 0
    while taken < 4:
        taken += consumer.take(accepting(inbox), wait_s=5)
    consumer.close()
    assert [e.arrival.event_id for e in inbox.next_waiting(now=NOW, limit=9)] == ["1", "2"]
    (dead,) = inbox.find(status=InboxStatus.DEAD)
    assert dead.arrival.data == {"message": "no JSON"}
    with Peer(rabbitmq_url) as peer:
        assert peer.all_of(queue) == []


def test_what_is_not_committed_comes_again(
    rabbitmq_url: str, control_store: SqlControlStore
) -> None:
    """A message is acknowledged after the inbox has it: if that fails, it is still the broker's."""
    inbox, queue = SqlInbox.from_engine(control_store.engine), f"in.{uuid4().hex}"
    with Peer(rabbitmq_url) as peer:
        peer.send(queue, envelope(1))
    consumer = RabbitConsumer(url=SecretStr(rabbitmq_url), queue=queue)

    def breaks(_messages: Sequence[Message]) -> None:
        raise RuntimeError("the database is gone")

    with pytest.raises(RuntimeError):
        take_something(consumer, breaks)
    take_something(consumer, accepting(inbox))
    consumer.close()
    assert len(inbox.next_waiting(now=NOW, limit=9)) == 1


def test_a_broker_that_dies_in_between_loses_nothing(
    own_broker: Broker, control_store: SqlControlStore
) -> None:
    """While events go in and out, the broker is killed and comes back: all arrive, and each has effect once."""
    world, inbox = World(control_store, own_broker.url), SqlInbox.from_engine(control_store.engine)
    with Peer(own_broker.url) as peer:
        peer.bind("events", "out")
        peer.send("in", *(envelope(number) for number in range(300)))
    world.add("bus", "events", kind=DestinationKind.RABBITMQ)
    told = tell(control_store, *(new_event(str(number)) for number in range(300)))
    dispatcher = world.dispatcher()
    consumer = RabbitConsumer(url=SecretStr(own_broker.url), queue="in", prefetch=50)
    world.run_until(
        lambda: world.directory.destinations.get("bus").cursor > told[0].cursor, dispatcher
    )
    consumer.take(accepting(inbox), wait_s=5)
    own_broker.kill()
    restarting = threading.Thread(target=own_broker.start)
    restarting.start()

    def all_there() -> bool:
        with contextlib.suppress(BrokerUnreachable):
            consumer.take(accepting(inbox), wait_s=0.05)
        out = world.directory.destinations.get("bus").cursor >= told[-1].cursor
        return out and len(inbox.find(limit=1000)) == 300

    world.run_until(all_there, dispatcher)
    restarting.join()
    dispatcher.close()
    consumer.close()
    waiting = inbox.next_waiting(now=NOW, limit=1000)
    assert [int(e.arrival.event_id) for e in waiting] == list(range(300))
    with Peer(own_broker.url) as peer:
        sent = [each["id"] for each in peer.all_of("out")]
    assert list(dict.fromkeys(sent)) == [each.event_id for each in told]

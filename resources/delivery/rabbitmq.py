"""RabbitMQ: events out by a durable exchange with confirms, in from a durable queue with acks after the commit."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, NackError, UnroutableError
from pydantic import SecretStr

from penstock.errors import PenstockError
from penstock.events.cloudevents import STRUCTURED, structured
from penstock.events.delivery import Answer, Destination
from penstock.events.envelope import OutboxEvent

_FAST = {"socket_timeout": 5, "stack_timeout": 10, "blocked_connection_timeout": 10}
MAX_MESSAGE_BYTES = 256 * 1024


class BrokerUnreachable(PenstockError):
    """RabbitMQ cannot be reached, or does not let us in; the message never holds its URL."""

    code = "broker_unreachable"


def _connect(url: SecretStr) -> pika.BlockingConnection:
    try:
        parameters = pika.URLParameters(url.get_secret_value())
    except Exception:  # noqa: BLE001  whatever it says may hold the password
        raise BrokerUnreachable(
            "the broker's URL is not of the form amqps://user:password@host:port/vhost"
        ) from None
    parameters.socket_timeout = _FAST["socket_timeout"]
    parameters.stack_timeout = _FAST["stack_timeout"]
    parameters.blocked_connection_timeout = _FAST["blocked_connection_timeout"]
    parameters.connection_attempts = 1
    # What it says of connections is said again by who asked, without addresses and tracebacks.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        return pika.BlockingConnection(parameters)
    except (AMQPError, OSError) as error:
        # The kind alone: what errors say of connections names users and addresses.
        raise BrokerUnreachable(f"RabbitMQ cannot be reached: {type(error).__name__}") from None


class RabbitSender:
    """Publishes events to a destination's exchange, by type and tenant, each confirmed; one thread at a time."""

    def __init__(self, url: SecretStr | None) -> None:
        self._url = url
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._declared: set[str] = set()

    def send(self, destination: Destination, event: OutboxEvent, secrets: Sequence[str]) -> Answer:  # noqa: ARG002
        """Publish one event and return whether the broker has it; no failure of the other side is raised."""
        if self._url is None:
            return Answer(error="no broker is set: PENSTOCK_RABBITMQ_URL names one")
        body = json.dumps(structured(event), separators=(",", ":")).encode()
        properties = pika.BasicProperties(
            content_type=STRUCTURED,
            delivery_mode=pika.DeliveryMode.Persistent,
            message_id=event.event_id,
            type=event.type,
            timestamp=int(event.time.timestamp()),
        )
        try:
            channel = self._open(destination.address)
            # Not mandatory: nobody has to have bound a queue yet.
            channel.basic_publish(
                destination.address, f"{event.tenant_id}.{event.type}", body, properties
            )
        except BrokerUnreachable as error:
            self.close()
            return Answer(error=str(error))
        except (NackError, UnroutableError):
            return Answer(error="RabbitMQ did not take the event")
        except (AMQPError, OSError) as error:
            self.close()
            return Answer(error=f"RabbitMQ broke off: {type(error).__name__}")
        return Answer()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        _close(connection)

    def _open(self, exchange: str) -> BlockingChannel:
        assert self._url is not None
        if self._connection is None or self._channel is None or not self._channel.is_open:
            self.close()
            self._connection = _connect(self._url)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        if exchange not in self._declared:
            self._channel.exchange_declare(exchange, "topic", durable=True)
            self._declared.add(exchange)
        return self._channel


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message as the queue had it."""

    tag: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    message_id: str


@dataclass(kw_only=True)
class RabbitConsumer:
    """Takes events from a durable queue; a message is acknowledged once what it says is committed."""

    url: SecretStr
    queue: str
    prefetch: int = 500
    _connection: pika.BlockingConnection | None = field(default=None, repr=False)
    _channel: BlockingChannel | None = field(default=None, repr=False)
    _arrived: list[Message] = field(default_factory=list, repr=False)

    def take(self, accept: Callable[[Sequence[Message]], object], *, wait_s: float) -> int:
        """Hand over what has come, or comes within ``wait_s``, and acknowledge it if that succeeds; return how many.

        Raises :class:`BrokerUnreachable`; what was not acknowledged comes again.
        """
        with self._guarded():
            channel = self._open()
            assert self._connection is not None
            if not self._arrived:
                self._connection.process_data_events(time_limit=wait_s)
            messages = self._arrived[: self.prefetch]
            if not messages:
                return 0
            accept(messages)
            channel.basic_ack(messages[-1].tag, multiple=True)
            del self._arrived[: len(messages)]
            return len(messages)

    def close(self) -> None:
        """Close the connection; what is not acknowledged goes back to the queue."""
        connection, self._connection, self._channel = self._connection, None, None
        self._arrived.clear()
        _close(connection)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (AMQPError, OSError) as error:
            self.close()
            raise BrokerUnreachable(f"RabbitMQ broke off: {type(error).__name__}") from None
        except BaseException:
            # What was handed over is not committed, so it has to come again.
            self.close()
            raise

    def _open(self) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            self.close()
            self._connection = _connect(self.url)
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=self.prefetch)
            self._channel.queue_declare(self.queue, durable=True)
            self._channel.basic_consume(self.queue, self._came)
        return self._channel

    def _came(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        headers = {str(k): str(v) for k, v in (properties.headers or {}).items()}
        self._arrived.append(
            Message(
                tag=method.delivery_tag,
                body=body,
                content_type=properties.content_type or "",
                headers=headers,
                message_id=properties.message_id or "",
            )
        )


def _close(connection: pika.BlockingConnection | None) -> None:
    if connection is not None and connection.is_open:
        with contextlib.suppress(AMQPError, OSError):
            connection.close()

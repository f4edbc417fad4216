"""Sending by whatever kind a destination is of, over connections that are kept for each."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from pydantic import SecretStr

from penstock.events.delivery import Answer, Destination, DestinationKind
from penstock.events.envelope import OutboxEvent
from resources.delivery.rabbitmq import RabbitSender
from resources.delivery.webhook_limits import WebhookLimits
from resources.delivery.webhooks import WebhookSender


class EventSender:
    """:class:`penstock.use_cases.deliver_events.Sender` for every kind; each destination by one thread at a time."""

    def __init__(
        self,
        *,
        limits: WebhookLimits,
        broker: SecretStr | None,
        now: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits, self._broker, self._now, self._tls = limits, broker, now, tls
        self._senders: dict[str, WebhookSender | RabbitSender] = {}
        self._lock = threading.Lock()

    def send(self, destination: Destination, event: OutboxEvent, secrets: Sequence[str]) -> Answer:
        """Send one event and return what was said of it."""
        return self._sender_of(destination).send(destination, event, secrets)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            senders, self._senders = list(self._senders.values()), {}
        for sender in senders:
            sender.close()

    def _sender_of(self, destination: Destination) -> WebhookSender | RabbitSender:
        name = f"{destination.kind}:{destination.destination_id}"
        with self._lock:
            if name not in self._senders:
                self._senders[name] = self._new(destination.kind)
            return self._senders[name]

    def _new(self, kind: DestinationKind) -> WebhookSender | RabbitSender:
        match kind:
            case DestinationKind.WEBHOOK:
                return WebhookSender(self._limits, now=self._now, tls=self._tls)
            case DestinationKind.RABBITMQ:
                return RabbitSender(self._broker)

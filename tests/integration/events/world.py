"""Events on a real control database, sent to real receivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet
from pydantic import SecretStr

from penstock.events.delivery import DeliveryPolicy, DestinationKind, Wanted
from penstock.identity.ids import TenantId
from penstock.use_cases.acts import By
from penstock.use_cases.deliver_events import Delivering
from penstock.use_cases.destinations import Added, Directory, NewDestination, add_destination
from resources.clock import SystemClock
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from resources.delivery.dispatching import Dispatcher
from resources.delivery.sending import EventSender
from resources.delivery.webhook_limits import WebhookLimits
from resources.event_wiring import open_delivering, open_directory
from resources.settings import Settings

KIM = By(actor="kim", reason="a test")
PATIENCE_S = 60.0


class World:
    """What sends events, over one store."""

    def __init__(self, store: SqlControlStore, broker: str | None = None, **policy: Any) -> None:
        limits = WebhookLimits(allowed_networks=("127.0.0.0/8",), timeout_s=30)
        values = {"first_delay_s": 0.02, "max_delay_s": 0.05, **policy}
        self.settings = Settings(
            webhook_limits=limits,
            delivery_policy=DeliveryPolicy(**values),
            secret_keys=[SecretStr(Fernet.generate_key().decode())],
            rabbitmq_url=None if broker is None else SecretStr(broker),
        )
        self.store, self.clock = store, SystemClock()
        self.log = SqlEventLog.from_engine(store.engine)
        self.directory: Directory = open_directory(self.settings, store.engine, self.clock)

    def delivering(self, owner: str = "one") -> tuple[Delivering, EventSender]:
        """What one server needs to send events."""
        sender = EventSender(
            limits=self.settings.webhook_limits,
            broker=self.settings.rabbitmq_url,
            now=self.clock.now,
        )
        made = open_delivering(self.settings, self.store.engine, self.clock, sender, owner)
        return made, sender

    def dispatcher(self, owner: str = "one") -> Dispatcher:
        """One server that sends events."""
        delivering, sender = self.delivering(owner)
        return Dispatcher(delivering, self.log, sender)

    def add(self, name: str, address: str, **fields: Any) -> Added:
        """Have events sent somewhere."""
        values: dict[str, Any] = {
            "destination_id": name,
            "tenant_id": TenantId("default"),
            "kind": DestinationKind.WEBHOOK,
            "address": address,
            "wanted": Wanted(),
        }
        return add_destination(self.directory, NewDestination(**{**values, **fields}), by=KIM)

    def run_until(self, condition: Callable[[], bool], *dispatchers: Dispatcher) -> None:
        """Send events until a condition holds."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up_at, "it did not come to be"
            for dispatcher in dispatchers:
                dispatcher.dispatch(wait_s=0.02)

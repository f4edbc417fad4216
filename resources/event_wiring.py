"""What events need, made of settings and a control database's engine."""

from __future__ import annotations

import os
import random
import socket

from sqlalchemy import Engine

from penstock.ports.clock import Clock
from penstock.use_cases.deliver_events import Delivering
from penstock.use_cases.destinations import Directory
from resources.control_db.destinations import SqlDestinations
from resources.control_db.outbox_log import SqlEventLog
from resources.delivery.guarded import check_url
from resources.delivery.sending import EventSender
from resources.delivery.webhooks import new_secret
from resources.sealing import open_box
from resources.settings import Settings

_random = random.SystemRandom()


def owner_name() -> str:
    """Return what names this process in leases."""
    return f"{socket.gethostname()}:{os.getpid()}:{_random.getrandbits(32):08x}"


def jitter() -> float:
    """Draw a number from 0 to 1."""
    return _random.random()


def open_sender(settings: Settings, clock: Clock) -> EventSender:
    """Return what sends events as settings say."""
    return EventSender(limits=settings.webhook_limits, broker=settings.rabbitmq_url, now=clock.now)


def open_destinations(settings: Settings, engine: Engine) -> SqlDestinations:
    """Return where events are sent to, with the secrets."""
    keys = [key.get_secret_value() for key in settings.secret_keys]
    return SqlDestinations.from_engine(engine).with_box(open_box(keys, settings.home))


def open_directory(settings: Settings, engine: Engine, clock: Clock) -> Directory:
    """Return what acts on destinations need."""
    return Directory(
        destinations=open_destinations(settings, engine),
        log=SqlEventLog.from_engine(engine),
        clock=clock,
        check_address=lambda address: check_url(address, settings.webhook_limits),
        new_secret=new_secret,
    )


def open_delivering(
    settings: Settings, engine: Engine, clock: Clock, sender: EventSender, owner: str
) -> Delivering:
    """Return what sending events needs."""
    return Delivering(
        log=SqlEventLog.from_engine(engine),
        destinations=open_destinations(settings, engine),
        sender=sender,
        clock=clock,
        policy=settings.delivery_policy,
        owner=owner,
        jitter=jitter,
    )

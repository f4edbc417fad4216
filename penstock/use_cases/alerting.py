"""Alerts on new dead letters: one message for a cause, and not again for a while."""

from __future__ import annotations

from datetime import timedelta

from penstock.ports.alerts import Alerts
from penstock.ports.dead_letters import LetterGroup
from penstock.publish.dead_letters import normalised
from penstock.use_cases.platform import Platform

MOST_AT_ONCE = 20
_SAID = 300


def alert_new_dead_letters(platform: Platform, alerts: Alerts, *, every_s: float) -> int:
    """Tell people of open dead letters that nobody was told of; returns how many messages were sent.

    Letters of one cause make one message, and no other for ``every_s`` seconds. A message that reached nobody is
    tried again with the next call. No attribute and no key of an entity is in it.
    """
    now = platform.clock.now()
    groups = platform.control.unalerted_groups(
        silent_since=now - timedelta(seconds=every_s), limit=MOST_AT_ONCE
    )
    sent = 0
    for group in groups:
        if alerts.send(_title(group), _body(group)):
            platform.control.mark_alerted(group.fingerprint, until=group.last_at, now=now)
            sent += 1
    return sent


def _title(group: LetterGroup) -> str:
    letters = "a dead letter" if group.letters == 1 else f"{group.letters:,} dead letters"
    return f"Penstock: {letters}, {group.code}"


def _body(group: LetterGroup) -> str:
    about = [
        f"{name} {value}"
        for name, value in (
            ("source", group.source_id),
            ("target", group.target_id),
            ("type", group.type_name),
        )
        if value
    ]
    return (
        f"{', '.join(about)}: {normalised(group.message)[:_SAID]}\n"
        f"First at {group.first_at:%Y-%m-%d %H:%M} UTC, last at {group.last_at:%Y-%m-%d %H:%M} UTC. To look at them: "
        f"penstock dead-letters --fingerprint {group.fingerprint}"
    )

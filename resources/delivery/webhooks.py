"""Webhooks as Standard Webhooks has them: a POST of the event, signed with the secrets that count at the moment."""

from __future__ import annotations

import json
import secrets as randomness
import ssl
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
from standardwebhooks.webhooks import Webhook

from penstock.events.cloudevents import STRUCTURED, structured
from penstock.events.delivery import Answer, Destination
from penstock.events.envelope import OutboxEvent
from resources.delivery.guarded import (
    AddressRefused,
    BadAddress,
    GuardedPost,
    HttpAnswer,
)
from resources.delivery.webhook_limits import WebhookLimits

_GONE = 410


def new_secret() -> str:
    """Return a fresh signing secret, as Standard Webhooks writes one."""
    return "whsec_" + b64encode(randomness.token_bytes(32)).decode()


class WebhookSender:
    """Sends events to one destination's address; one thread at a time."""

    def __init__(
        self,
        limits: WebhookLimits,
        *,
        now: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._http = GuardedPost(limits, tls=tls)
        self._now = now

    def send(self, destination: Destination, event: OutboxEvent, secrets: Sequence[str]) -> Answer:
        """Send one event and return what was said of it; no failure of the other side is raised."""
        body = json.dumps(structured(event), separators=(",", ":"))
        headers = {
            "content-type": STRUCTURED,
            "user-agent": "penstock",
            **signed(event.event_id, self._now(), body, secrets),
        }
        try:
            answer = self._http.post(destination.address, headers=headers, body=body.encode())
        except (AddressRefused, BadAddress) as error:
            return Answer(error=str(error))
        except (httpcore.TimeoutException, TimeoutError):
            return Answer(error="it did not answer in time")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            # The words of TLS and sockets name no more than hosts and reasons.
            return Answer(error=f"it cannot be reached: {type(error).__name__}: {error}"[:500])
        return self._judged(answer)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._http.close()

    def _judged(self, answer: HttpAnswer) -> Answer:
        if 200 <= answer.status < 300:
            return Answer(status_code=answer.status)
        said = f"it answered {answer.status}"
        if 300 <= answer.status < 400:
            said += ": redirects are not followed, so give the address that it leads to"
        return Answer(
            error=said,
            status_code=answer.status,
            retry_after_s=_retry_after_s(answer.headers.get("retry-after"), self._now()),
            gone=answer.status == _GONE,
        )


def signed(event_id: str, at: datetime, body: str, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of Standard Webhooks: one signature for each secret."""
    # The library takes the moment as naive UTC, and to the second.
    moment = at.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    signatures = [Webhook(secret).sign(event_id, moment, body) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())

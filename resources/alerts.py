"""Alerts through apprise: mail, chat, webhooks, each named by one URL."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic import SecretStr

from penstock.errors import PenstockError

_log = logging.getLogger(__name__)


class BadAlertUrl(PenstockError):
    """An alert URL is of no service that apprise knows."""

    code = "bad_alert_url"


class AppriseAlerts:
    """:class:`penstock.ports.alerts.Alerts` over apprise. The URLs hold secrets and are never written anywhere."""

    def __init__(self, urls: Sequence[SecretStr]) -> None:
        import apprise

        self._apprise = apprise.Apprise()
        for number, url in enumerate(urls, start=1):
            if not self._apprise.add(url.get_secret_value()):
                raise BadAlertUrl(
                    f"URL {number} of PENSTOCK_ALERT_URLS is of no service that apprise knows: see "
                    "https://github.com/caronc/apprise/wiki"
                )

    def send(self, title: str, body: str) -> bool:
        """Send one message to every URL; False if one of them did not take it. Never raises."""
        try:
            return bool(self._apprise.notify(title=title, body=body))
        except Exception as error:  # noqa: BLE001  an alert that fails must not fail what it is about
            _log.warning("an alert could not be sent: %s", type(error).__name__)
            return False

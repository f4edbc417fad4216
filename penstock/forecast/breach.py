"""Whether a breach is foretold: when a forecast is sure enough of it, and until it no longer is."""

from __future__ import annotations

from penstock.forecast.eta import Eta
from penstock.forecast.policy import ForecastPolicy


def is_foretold(eta: Eta, policy: ForecastPolicy, *, was_open: bool) -> bool:
    """Say whether a batch is foretold to be late.

    It is from a probability of ``breach_alert`` on, and stays so (``was_open``) until it falls below ``breach_calm``.
    Once the batch is due it is late or not, and nothing is foretold.
    """
    if eta.breach_probability is None or eta.due_at is None or eta.due_at <= eta.made_at:
        return False
    limit = min(policy.breach_alert, policy.breach_calm) if was_open else policy.breach_alert
    return eta.breach_probability >= limit

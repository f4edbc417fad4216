"""Where webhooks may go, and how long they may take."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, field_validator

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class WebhookLimits(BaseModel):
    """Where webhooks may go, and how long they may take; times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    allowed_networks: tuple[str, ...] = ()
    """Networks that may be reached though they are private: ``10.1.0.0/16``. Plain http goes nowhere else."""
    connect_s: float = Field(default=5.0, gt=0)
    timeout_s: float = Field(default=15.0, gt=0)
    """From the first byte sent to the last that is read."""
    max_answer_bytes: int = Field(default=16 * 1024, ge=0)
    """More of an answer is not read."""

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            ipaddress.ip_network(text)
        return texts

    def networks(self) -> tuple[IpNetwork, ...]:
        """Return the networks that may be reached though they are private."""
        return tuple(ipaddress.ip_network(each) for each in self.allowed_networks)

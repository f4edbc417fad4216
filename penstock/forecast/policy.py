"""What installations decide about forecasts, SLAs and incidents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ForecastPolicy(BaseModel):
    """Goals and limits. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sla_objective: float = Field(default=0.95, gt=0, lt=1)
    """Share of a source's batches that should come within its SLA."""
    breach_alert: float = Field(default=0.9, gt=0, le=1)
    """Probability of a breach from which on one is foretold; about one in ten comes in time all the same."""
    breach_calm: float = Field(default=0.25, ge=0, lt=1)
    """Below which it is taken back."""
    target_down_s: float = Field(default=60.0, ge=0)
    """Seconds for which a breaker has to have been open before customers are told."""
    keep_days: int = Field(default=90, ge=1)
    """Days for which forecasts are kept as they were made."""

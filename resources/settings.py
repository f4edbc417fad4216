"""Settings: everything that differs between one installation and another, read from the environment.

``docs/reference/settings.md`` is generated from :class:`Settings`. Nothing here is read at import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, ValidationError

from penstock.access.limits import RequestLimits
from penstock.batch.guard_policy import GuardPolicy
from penstock.errors import PenstockError
from penstock.events.alerts import AlertPolicy, AlertRoute
from penstock.events.delivery import DeliveryPolicy
from penstock.events.handling import HandlingPolicy
from penstock.forecast.policy import ForecastPolicy
from penstock.publish.breaker import BreakerPolicy
from penstock.publish.queue import QueuePolicy
from penstock.publish.retention import RetentionPolicy
from penstock.publish.retry import RetryPolicy
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.workers import WorkerPolicy
from resources.delivery.webhook_limits import WebhookLimits
from resources.registry.api_settings import OidcIssuer
from resources.targets.http_settings import HttpEndpoint

PREFIX = "PENSTOCK_"


class BadSettings(PenstockError):
    """An environment variable has a value that Penstock cannot use."""

    code = "bad_settings"


class Settings(BaseModel):
    """One installation. Each field is the environment variable ``PENSTOCK_<FIELD>`` in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default=Path(".penstock"), description="Folder for all data kept on disk.")
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the control database; by default SQLite in the home folder.",
    )
    objects_url: str | None = Field(
        default=None,
        description="`s3://bucket/prefix` or `file:///folder`; by default a folder in the home folder.",
    )
    s3_endpoint_url: str | None = Field(
        default=None, description="Endpoint of an S3-compatible service; AWS itself by default."
    )
    s3_region: str | None = Field(default=None, description="Region of the bucket.")
    s3_path_style: bool = Field(
        default=False, description="Address buckets as `endpoint/bucket`, not `bucket.endpoint`."
    )
    dagster_home: Path | None = Field(
        default=None,
        description="Dagster's instance folder; by default `dagster` in the home folder.",
    )
    dagster_url: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Where people reach Dagster's UI, for links from the dashboard to runs.",
    )
    lease_s: float = Field(
        default=30.0, gt=1, description="Seconds until a worker that went silent loses its batch."
    )
    chunk_operations: int = Field(
        default=10_000, ge=1, le=100_000, description="Operations sent to a target at once."
    )
    workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Threads of one publish run that work through the queue.",
    )
    look_every_s: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Seconds between two looks for new batches. A look costs one listing for each source: "
        "nothing on a local store, money on a distant one.",
    )
    queue_policy: Json[QueuePolicy] | QueuePolicy = Field(
        default_factory=QueuePolicy,
        description="Weights of the queue's score, rules that boost it or set deadlines, and how many lanes may be in "
        "hand at once, as a JSON object.",
    )
    guard_policy: Json[GuardPolicy] | GuardPolicy = Field(
        default_factory=GuardPolicy, description="Limits of the guards, as a JSON object."
    )
    retry_policy: Json[RetryPolicy] | RetryPolicy = Field(
        default_factory=RetryPolicy, description="Tries and delays of retries, as a JSON object."
    )
    breaker_policy: Json[BreakerPolicy] | BreakerPolicy = Field(
        default_factory=BreakerPolicy,
        description="When a target that is down is left alone, and how long, as a JSON object.",
    )
    workflow_policy: Json[WorkflowPolicy] | WorkflowPolicy = Field(
        default_factory=WorkflowPolicy,
        description="Weights of a task's score, and the rules that boost it or set its deadline, as a JSON object.",
    )
    worker_policy: Json[WorkerPolicy] | WorkerPolicy = Field(
        default_factory=WorkerPolicy,
        description="Leases of tasks, bulkheads between kinds and tenants, and when workers are given up, as a JSON "
        "object.",
    )
    maintenance_windows: Json[dict[str, str]] | dict[str, str] = Field(
        default_factory=dict,
        description="When a target is tried again after all other retries: a JSON object of target id to a cron "
        'expression in UTC, or in the zone that is named behind it: `{"wiki": "0 2 * * SUN Europe/Berlin"}`.',
    )
    retention_policy: Json[RetentionPolicy] | RetentionPolicy = Field(
        default_factory=RetentionPolicy,
        description="How long batches are kept with all that belongs to them, as a JSON object.",
    )
    verify_sample: int = Field(
        default=32,
        ge=-1,
        description="Applied operations of each chunk that are read back from the target; 0 for none, -1 for all.",
    )
    sql_targets: Json[dict[str, SecretStr]] | dict[str, SecretStr] = Field(
        default_factory=dict,
        description="More `sql_table` targets: a JSON object of target id to SQLAlchemy URL.",
    )
    http_targets: Json[dict[str, HttpEndpoint]] | dict[str, HttpEndpoint] = Field(
        default_factory=dict,
        description='`http` targets: a JSON object of target id to `{"url": ..., "token": ...}` and, if need be, '
        "the limits that docs/reference/http_target.md lists.",
    )
    drift_period_s: float = Field(
        default=7 * 24 * 3600.0,
        gt=0,
        description="Seconds within which the drift audit looks at every row of every target.",
    )
    drift_repair: Literal["plan", "list"] = Field(
        default="plan",
        description="`plan`: what drifted is repaired by itself. `list`: a person says so, by `penstock drift repair`.",
    )
    drift_extras: Literal["list", "delete"] = Field(
        default="list",
        description="What targets hold and nobody published. `list`: it is listed. `delete`: repairs delete it, as far "
        "as the source's guards let go.",
    )
    requeues_per_minute: int = Field(
        default=10_000, ge=1, description="Most dead letters that may be requeued in a minute."
    )
    alert_urls: Json[list[SecretStr]] | list[SecretStr] = Field(
        default_factory=list,
        description="Who is told of new dead letters: a JSON list of apprise URLs; by default nobody.",
    )
    alert_every_s: float = Field(
        default=3600.0, ge=0, description="Seconds before dead letters of one cause are told again."
    )
    alert_routes: Json[list[AlertRoute]] | list[AlertRoute] = Field(
        default_factory=list,
        description="Who is told of which alerts by the control plane's server: a JSON list of objects with `urls` "
        "(apprise), and if need be `tenants`, `kinds` and the least `severity`. Without it everything worth a warning "
        "goes to PENSTOCK_ALERT_URLS.",
    )
    alert_policy: Json[AlertPolicy] | AlertPolicy = Field(
        default_factory=AlertPolicy,
        description="From when on a queue is worth an alert, and when it is told again, as a JSON object.",
    )
    runbook_url: str = Field(
        default="docs/howto/runbooks.md",
        description="Where the runbooks are that alerts link to: `#` and the kind of alert is added.",
    )
    otlp_url: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Address of an OpenTelemetry collector that traces are sent to over HTTP, `http://host:4318`; by "
        "default nobody is told. Needs `penstock[otel]`.",
    )
    forecast_policy: Json[ForecastPolicy] | ForecastPolicy = Field(
        default_factory=ForecastPolicy,
        description="Goals of SLAs, when a breach is foretold, how long forecasts are kept, as a JSON object.",
    )
    status_public: Json[list[str]] | list[str] = Field(
        default_factory=list,
        description="Tenants whose status page anybody may see: a JSON list of tenant ids. The others' need a token.",
    )
    registry_limits: Json[RequestLimits] | RequestLimits = Field(
        default_factory=RequestLimits,
        description="How much may be asked of each process that serves the registry over HTTP, as a JSON object.",
    )
    control_limits: Json[RequestLimits] | RequestLimits = Field(
        default_factory=RequestLimits,
        description="How much may be asked of the control plane over HTTP, as a JSON object.",
    )
    registry_oidc: Json[OidcIssuer] | OidcIssuer | None = Field(
        default=None,
        description="An OIDC issuer whose bearer tokens the registry takes, as a JSON object: `issuer`, `audience` and "
        "`jwks_url`, and which claims are tenant and role. Without it only its own API tokens count.",
    )
    webhook_limits: Json[WebhookLimits] | WebhookLimits = Field(
        default_factory=WebhookLimits,
        description="Where webhooks may go, and how long they may take, as a JSON object: "
        '`{"allowed_networks": ["10.1.0.0/16"]}` lets them reach a private network.',
    )
    delivery_policy: Json[DeliveryPolicy] | DeliveryPolicy = Field(
        default_factory=DeliveryPolicy,
        description="How events are sent again, when a destination is given up, and how long events are kept, as a "
        "JSON object.",
    )
    handling_policy: Json[HandlingPolicy] | HandlingPolicy = Field(
        default_factory=HandlingPolicy,
        description="How often an event that came in is tried, as a JSON object.",
    )
    secret_keys: Json[list[SecretStr]] | list[SecretStr] = Field(
        default_factory=list,
        description="What seals the secrets of webhooks in the control database: a JSON list of Fernet keys, the "
        "newest first; by default one that is made in `secret.key` in the home folder. All processes need the same.",
    )
    rabbitmq_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ, as `amqps://user:password@host/vhost`, for destinations of kind `rabbitmq` and for the "
        "queue; by default there is none.",
    )
    rabbitmq_queue: str | None = Field(
        default=None,
        description="A durable queue of that broker that events come in by; by default there is none.",
    )
    cache_bytes: int = Field(
        default=10 * 2**30, ge=0, description="Most that the row cache keeps on disk, in bytes."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read settings from the environment; raises :class:`BadSettings`, naming the variable."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {
            name: environ[PREFIX + name.upper()]
            for name in cls.model_fields
            if environ.get(PREFIX + name.upper())
        }
        if "dagster_home" not in values and environ.get("DAGSTER_HOME"):
            values["dagster_home"] = environ["DAGSTER_HOME"]
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()
            )
            raise BadSettings(f"settings cannot be used: {problems}") from None
        return settings.model_copy(update={"home": settings.home.expanduser().absolute()})

    @property
    def control_url(self) -> str:
        """The control database's URL, secrets and all: never print it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'control.db'}"

    @property
    def store_url(self) -> str:
        """The object store's URL."""
        return self.objects_url or (self.home / "objects").as_uri()

    @property
    def dagster_folder(self) -> Path:
        """Dagster's instance folder."""
        return self.dagster_home or self.home / "dagster"

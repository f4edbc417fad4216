"""Fixtures that every kind of test shares, each in a module of ``tests/fixtures``, and how properties are searched.

A run tries the same examples each time, however slow the machine is. To search further, with other examples:
``pytest tests/property --hypothesis-profile=explore``.
"""

import gc

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.fixtures.browser",
    "tests.fixtures.checked_events",
    "tests.fixtures.clock",
    "tests.fixtures.collector",
    "tests.fixtures.http_endpoint",
    "tests.fixtures.inbox",
    "tests.fixtures.memory",
    "tests.fixtures.oidc",
    "tests.fixtures.postgres",
    "tests.fixtures.rabbitmq",
    "tests.fixtures.s3",
    "tests.fixtures.webhook",
]

settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Spare the collector what stays for the whole run: modules and tests, half a million objects at first.

    It still runs, less often; what it finds unclosed then fails a test, or the run at its end, as before.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


FIRST = (
    "e2e/test_recovery",
    "e2e/test_up",
    "crash/test_kills",
    "integration/registry/test_description",
    "crash/test_s3_faults",
    "crash/test_database_restart",
    "integration/control/test_description",
    "integration/test_benches",
    "crash/test_full_disk",
    "property/test_queue_machine",
    "integration/test_docs",
)
"""Modules whose single tests take 10 s and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first, so that no worker is left with one when the others have nothing left to take over.

    Modules stay whole, for what their tests share; pytest-xdist gives each worker a stretch of the list to begin with.
    """
    place = {f"tests/{name}.py": number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(FIRST)))

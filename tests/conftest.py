"""Fixtures that every kind of test shares; each lives in a module of ``tests/fixtures``."""

pytest_plugins = [
    "tests.fixtures.clock",
    "tests.fixtures.memory",
    "tests.fixtures.postgres",
    "tests.fixtures.s3",
]

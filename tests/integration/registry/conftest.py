"""What the tests of the registry's interfaces share."""

from tests.fixtures.registry_server import registry

__all__ = ["registry"]

"""What the tests of the control plane's interfaces share."""

from tests.fixtures.control_server import control

__all__ = ["control"]

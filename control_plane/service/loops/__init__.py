"""What the server does by itself, each loop under leases of the control database."""

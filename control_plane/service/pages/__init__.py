"""What people see: the dashboard and the status page."""

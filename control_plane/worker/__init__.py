"""A worker outside Dagster: pulls tasks from the control plane over HTTP and reports what came of them."""

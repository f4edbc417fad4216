"""The registry over HTTP: REST, its client, and pages. It calls use cases and owns no rules."""

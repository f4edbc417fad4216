"""Ports: what the domain needs of the outside. ``resources`` has the adapters; one contract suite holds each."""

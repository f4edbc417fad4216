"""The control database, on SQLite or PostgreSQL: one store behind every protocol of ``penstock.ports.control``."""

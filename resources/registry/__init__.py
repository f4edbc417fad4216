"""The registry on SQL databases: its log, what is now, projections, and who may ask."""

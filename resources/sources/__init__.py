"""The sources that come with Penstock: functions that return a ``SourceDefinition``."""

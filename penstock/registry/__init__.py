"""The registry: schemas, entities and their relationships as pure rules."""

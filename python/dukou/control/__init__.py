"""The loop: desired state becomes a table, the engine is held at it."""

"""One file a stage. Each knows what it needs and nothing of who runs it."""

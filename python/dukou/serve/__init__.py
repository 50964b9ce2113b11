"""The supervisor, the engine process and its local API. Standard library only."""

"""The protocols that a client speaks to a server: one file each, one line in `table.py`."""

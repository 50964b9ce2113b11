"""Backups of an installation: snapshots in a folder of their own, and back from there."""

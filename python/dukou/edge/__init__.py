"""Devices that serve alone: the folder that one runs from, what it says of itself, what it reports.

Knows serving folders and remotes' addresses; the agent itself is Rust (`crates/dukou-edge`), and no Python
runs on a device.
"""

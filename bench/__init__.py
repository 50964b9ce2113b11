"""Measures serving side by side: ours, the peers and two references, in one run on one machine.

`python -m bench CASE` runs a case of `bench/cases`, `make bench` runs the first of them. Nothing here
is a test: no figure is asserted. `docs/benchmarks.md` says what is measured and how to read it.
"""

"""Advice before deploying: what a model costs here is measured, and a strategy chosen by the numbers.

    subject ─► measure ─► Facts ─┐
                      Demand ────┴─► decide ─► Advice ─► write (`[deploy]` of the project)

Only `measure` starts anything; `decide` is a pure function from facts and a demand to advice.
"""

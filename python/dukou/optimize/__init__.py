"""Smaller or faster variants of a Model, judged through a Measure that is given."""

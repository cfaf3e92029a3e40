"""Which pairs of minima get a path: rules known by name, and the rounds of those that look at results.

Adding a rule is a file with a `PairRule` in it and a line in `registry.py`.
"""

"""Which pairs of minima get a path: rules by name, and the rounds of adaptive ones.

To add a rule, write a file with a `PairRule` and add a line to `registry.py`.
"""

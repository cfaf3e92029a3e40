"""Chooses the pairs of minima for which a path is optimised: rules by name, and the rounds of adaptive rules.

To add a rule, write a file with a `PairRule` and add a line to `registry.py`.
"""

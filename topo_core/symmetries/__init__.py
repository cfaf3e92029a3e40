"""Exact symmetries of a network: maps of its parameters that do not change what it computes."""

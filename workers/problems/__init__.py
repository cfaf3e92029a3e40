"""The problem of a run.

In: the names of a data set, a network and a loss.
Out: all three on a device, as an objective.
"""

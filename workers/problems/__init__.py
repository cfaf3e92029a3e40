"""The problem of a run.

In: the specifications of a data set, a network and a loss.
Out: an objective: the loss of the network on the data, on a device.
"""

"""Strategies to evaluate k copies of one network on one batch; all give the same numbers up to rounding.

A strategy makes an evaluator of a network, which sees flat parameters [k, d] and one batch of data. Which
strategy is fastest depends on the network and the device, so it is chosen once for a run, by a timed trial
that also compares its numbers with plain PyTorch. All of them are known by name in `registry`.
"""

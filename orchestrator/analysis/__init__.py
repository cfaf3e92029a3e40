"""Computes the results of a run from its records.

In: the records of a store.
Out: a `Landscape` with minima, passes, barcodes, scores, their error estimates, and the saddles at which bars
    end.
"""

"""Barcodes.

In: losses of minima and heights of passes or simplices.
Out: bars, merge trees, distances, scores and their errors. Only numbers: no point of a loss is evaluated
    here.
"""

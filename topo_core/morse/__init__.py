"""Whole landscapes of exact losses.

In: an objective and some of its minima.
Out: all critical points that a search finds, the cell complex of passes and discs, and its barcodes.
"""

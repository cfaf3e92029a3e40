"""From records to results.

In: the records of a store.
Out: a `Landscape` with minima, passes, barcodes, scores, their errors, and what each bar ends at.
"""

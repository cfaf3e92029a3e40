"""The plan of a run.

In: a run file, and later the results so far.
Out: tasks with their keys, the fingerprints of data and code, an estimate of cost, and further tasks for
    discovered minima and saddles.
"""

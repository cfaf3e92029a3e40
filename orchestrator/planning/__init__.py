"""The plan of a run.

In: a run file and, while the run goes on, its results so far.
Out: tasks with their keys, the hashes of data and code, an estimate of the cost, and further tasks for
    discovered minima and saddles.
"""

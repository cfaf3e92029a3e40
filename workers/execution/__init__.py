"""The worker.

In: a pack of tasks.
Out: their results, with objects and records in the store. One file for each kind of task.
"""

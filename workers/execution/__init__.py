"""The worker, with one file for each kind of task.

In: a pack of tasks (a list that the driver assigns at once).
Out: a result for each task, with its objects and records in the store.
"""

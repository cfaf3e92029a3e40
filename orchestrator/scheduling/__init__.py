"""Scheduling of a run.

In: the tasks of a plan.
Out: packs of tasks for an executor, and records committed under a lease; the scheduler is a pure function
    from events to commands, and the driver performs them.
"""

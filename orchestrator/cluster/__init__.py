"""Everything that imports Ray: connection, workers as actors, the executor, metrics, and submitted jobs.

In: packs of tasks from the driver.
Out: their results, and events of workers that join or are lost.
"""

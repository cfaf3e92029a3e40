"""All code that imports Ray: the connection, workers as actors, the executor, metrics, and submitted jobs.

In: packs of tasks from the driver.
Out: the results of the tasks, and events of workers that join or are lost.
"""

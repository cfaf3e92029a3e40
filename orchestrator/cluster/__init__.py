"""Everything that imports Ray: connection, workers as actors, the executor, metrics, and submitted jobs."""

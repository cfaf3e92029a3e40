"""The tasks of a worker: frozen values, the keys that name their results, and the outcome of each."""

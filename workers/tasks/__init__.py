"""The tasks of a worker: frozen dataclasses, the keys that name their results, and the result types."""

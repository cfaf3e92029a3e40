"""The tasks of a worker: frozen values, their keys, and their results."""

"""What can be asked of a worker: frozen tasks, their keys, and what they end with."""

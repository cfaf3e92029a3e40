"""The worker: one file for each kind of task, progress, and the choice of the evaluation strategy."""

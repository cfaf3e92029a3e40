"""The worker: one file for each kind of task, and how it says how far it is."""

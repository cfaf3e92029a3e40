"""First paths: one file for each start."""

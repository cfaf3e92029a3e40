"""A run that was started: read, checked, reused, kept small."""

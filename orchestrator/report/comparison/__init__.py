"""Several runs side by side: one file for each figure."""

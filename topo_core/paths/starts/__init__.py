"""First paths: one file for each way to make one."""

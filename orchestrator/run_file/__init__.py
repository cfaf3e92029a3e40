"""The run file: its models, and the errors that name what is wrong in it."""

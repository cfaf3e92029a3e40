"""The store of a run: objects in a folder or a bucket, their names, the records of results, and tensor
files."""

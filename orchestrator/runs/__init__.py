"""Stored runs.

In: the folder or URL of a run.
Out: its results as tables and networks; verification and maintenance of its store; copies of results for
other runs; the provenance of results.
"""

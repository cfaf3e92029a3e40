"""The live page of a run.

In: the store of the run.
Out: its progress, as JSON and as a web page.
"""

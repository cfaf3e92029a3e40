"""The live page of a run.

In: its store and its events.
Out: progress as JSON and as a page.
"""

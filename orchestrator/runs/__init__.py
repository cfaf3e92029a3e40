"""Stored runs.

In: a folder or URL.
Out: its records as tables and networks, verification, reuse by other runs, maintenance, provenance.
"""

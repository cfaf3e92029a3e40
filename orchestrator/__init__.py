"""Decides what runs, watches it, and reduces it to barcodes.

The road of the data, one file a step: config → plan → (drive: state, executor) → store → reduce → report.
"""

"""Comparison of several runs: one module for each figure, and the page."""

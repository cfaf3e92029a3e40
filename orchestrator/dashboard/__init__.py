"""A running run: its progress and the live page."""

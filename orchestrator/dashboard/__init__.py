"""A run while it goes: progress and the live page."""

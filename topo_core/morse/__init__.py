"""Whole landscapes of exact losses: the search for all critical points, and their cell complex."""

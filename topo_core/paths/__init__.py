"""Paths between two minima, relaxed to their pass (sections 1.2 and 2.6): polyline, step, solver, height."""

"""Paths between two minima (sections 1.2 and 2.6).

In: an objective and two points.
Out: a polyline relaxed to its pass, its dense profile and height, and whether it has converged.
"""

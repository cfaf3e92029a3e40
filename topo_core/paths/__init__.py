"""Paths between two minima (sections 1.2 and 2.6).

Input: an objective and two points.
Output: a polyline relaxed to its pass, the losses along it, its height, and whether it has converged.
"""

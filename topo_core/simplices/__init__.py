"""Optimised r-simplices (section 1.4).

In: an objective and the faces.
Out: a lattice of points with the lowest highest loss, and that loss.
"""

"""Optimised r-simplices (section 1.4).

Input: an objective and the optimised faces of a simplex.
Output: a lattice of points, relaxed so that the highest loss on the simplex is low, and that loss.
"""

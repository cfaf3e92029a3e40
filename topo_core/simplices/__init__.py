"""Optimised r-simplices (section 1.4): lattice, step, solver, highest loss."""

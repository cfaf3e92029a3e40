"""Objectives: a loss as a map from rows of parameters [k, d] to values [k] and gradients [k, d]."""

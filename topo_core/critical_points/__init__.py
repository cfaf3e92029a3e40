"""Points where the gradient vanishes.

In: an objective and a point.
Out: the minimum or saddle that a search reaches, and the proof of its index.
"""

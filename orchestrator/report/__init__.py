"""A `Landscape` for people.

In: the result of `analysis`.
Out: text for a terminal, a page, figures, tables.
"""

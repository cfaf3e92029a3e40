"""Present the results of runs to people.

In: a `Landscape`, the result of `analysis`.
Out: text for a terminal, an HTML page, figures, tables, and files in other formats.
"""

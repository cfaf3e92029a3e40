"""A `Landscape`, for people: in the terminal, as a page, as figures, as tables."""

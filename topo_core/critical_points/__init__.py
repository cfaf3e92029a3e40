"""Points where the gradient vanishes: the search for them, and the proof of their index."""

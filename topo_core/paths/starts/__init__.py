"""Initial paths (starts), each in a file of its own, and the functions that several of them share."""

"""Barcodes: minima and passes as a filtration, its persistent homology, distances and scores."""

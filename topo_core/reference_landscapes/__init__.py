"""Losses whose minima, saddles and barcodes are known, with the sources of the numbers."""

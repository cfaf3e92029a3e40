"""Losses whose minima, saddles and barcodes are known."""

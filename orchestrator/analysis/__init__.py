"""From records to results: minima, passes, barcodes, scores and their errors."""

"""The plan of a run: its tasks, fingerprints of data and code, estimated cost, discovery, saddles."""

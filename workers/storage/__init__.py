"""The store of a run: objects, their names, records, tensors."""

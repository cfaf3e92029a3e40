"""Stored runs: reading, verification, reuse, maintenance, provenance."""

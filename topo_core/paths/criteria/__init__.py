"""Insertion criteria: which segments get a midpoint. One file each; `registry` knows them by name."""

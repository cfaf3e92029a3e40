"""Tangent rules: which part of a gradient lies along the path. One file each; `registry` lists them."""

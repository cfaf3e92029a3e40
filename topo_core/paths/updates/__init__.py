"""Update rules (optimisers of the points of a path). One file each; `registry` knows them by name."""

"""Studies: one file that expands into many runs, to be carried out, resumed and compared as one.

The paper's experiments are files in this folder, one for each figure; `toscore studies` lists them.
"""

"""Studies: one file that expands into many runs, which are run, resumed and compared together.

In: a study file, or a shipped study by its name.
Out: run files, a table that compares the runs, and the result of a test for each claim.

The paper's experiments are study files in this folder, one for each figure; `toscore studies` lists them.
"""

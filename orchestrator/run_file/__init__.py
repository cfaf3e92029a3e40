"""The run file.

In: YAML and overrides.
Out: a frozen `RunFile`, or an error of one sentence that names the key, its value, and what is allowed.
"""

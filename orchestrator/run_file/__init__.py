"""The run file.

In: YAML and overrides.
Out: a frozen `RunFile`, or one sentence that names the key, the value, and what is allowed.
"""

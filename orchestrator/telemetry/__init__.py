"""Events of the driver.

In: events.
Out: a display, a structured log, and counts and durations.
"""

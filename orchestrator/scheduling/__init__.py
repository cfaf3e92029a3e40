"""Scheduling of a run: lease, scheduler, driver, executor protocol, health of workers."""

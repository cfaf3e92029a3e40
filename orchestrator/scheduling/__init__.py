"""Who drives a run and what it does next: lease, scheduler, driver, health of workers."""

"""Events of the driver, and the observers that display, log and count them."""

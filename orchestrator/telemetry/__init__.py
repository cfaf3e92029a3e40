"""Events of the driver, and the observers that print, log and count them."""

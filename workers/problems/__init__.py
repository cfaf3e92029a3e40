"""The problem of a run, loaded: data, network and loss on a device."""

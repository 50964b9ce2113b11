"""A version's way to all of the traffic: what is asked of it, what counts against it, what follows."""

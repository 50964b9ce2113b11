"""The steps by which a registry's tables came to be; applied when a registry is opened."""

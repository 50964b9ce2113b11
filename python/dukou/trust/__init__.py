"""Sign and verify, keys, the trust store. The stages call it; it knows none of them."""

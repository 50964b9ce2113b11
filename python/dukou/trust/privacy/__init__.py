"""Personal data: what a field is tagged as, what a pattern finds, and the keys that both stand on."""

"""One file a noun: parse, call, show. No business rules."""

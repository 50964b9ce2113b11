"""A chosen Model becomes an immutable, content-addressed, signed version in an OCI layout."""

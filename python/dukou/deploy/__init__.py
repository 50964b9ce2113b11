"""A deployment (a document) becomes a ServingTable: names to digests to policy."""

"""Names, versions, aliases and deployments, each change one transaction with its audit event."""

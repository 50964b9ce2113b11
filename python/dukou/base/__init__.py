"""What every room may use: ids as types, errors, settings, lazy tables. Knows no model and no network."""

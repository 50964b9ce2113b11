"""Where versions are carried to and fetched from: one file a kind of remote, each a `Remote`."""

"""A file or folder of any framework becomes a Model. One file a source; frameworks are imported inside functions."""

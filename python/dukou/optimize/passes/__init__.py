"""One file a pass: each makes one smaller or faster form of a model, or says that it cannot."""

"""The loop that holds an engine at what the registry says. Serving does not notice when it dies."""

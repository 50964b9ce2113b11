"""What is watched of a model that serves: its requests, its drift, its quality, its logs."""

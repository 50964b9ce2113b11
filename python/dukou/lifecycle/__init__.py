"""The project file and its runner: the only place that knows the whole order."""

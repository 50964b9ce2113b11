"""A Model and data become an Evaluation with intervals; gates stop the line."""

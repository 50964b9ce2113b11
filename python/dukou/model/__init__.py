"""What a model is: frozen values that every stage passes on. Knows not where a model is stored or run."""

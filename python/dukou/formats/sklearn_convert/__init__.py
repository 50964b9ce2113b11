"""The child process of the scikit-learn reader: the only place of this stop where a pickle is loaded."""

"""The child process of the readers of neural networks: PyTorch's and Keras's files are loaded here alone."""

"""Ways to run it: the embedded stack, compose, Kubernetes."""

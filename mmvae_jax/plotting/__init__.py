"""Pictures of what a model does: data, reconstructions, samples, and metrics against the number of inputs."""

"""The equation: poses, CTF, renderer, noise and forward model, batched and differentiable."""

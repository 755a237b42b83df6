"""Motion models: from a latent position to where the points of a molecule are."""

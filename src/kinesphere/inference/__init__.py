"""From images to motion: data term, latents, training, and finished runs."""

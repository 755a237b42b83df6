"""Maps at places of the latent space, made without the structures, and whether they change as the
structures do.
"""

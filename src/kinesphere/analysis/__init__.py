"""What the recovered motion is: latent components, ensembles, rigid bodies and trajectories of a
finished run.
"""

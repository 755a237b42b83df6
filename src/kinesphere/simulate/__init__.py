"""Particle sets with a known truth, made from atomic structures with an all-atom scattering
potential.
"""

"""Particle images and what is known of each: pose, CTF, optics, half set."""

from kinesphere.particles.halves import assign_halves as assign_halves
from kinesphere.particles.image_files import ImageFiles as ImageFiles
from kinesphere.particles.optics import OpticsGroup as OpticsGroup
from kinesphere.particles.particle_set import ParticleSet as ParticleSet
from kinesphere.particles.particle_set import StoredImages as StoredImages

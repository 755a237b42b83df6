"""Structures that travel with the program; README.md says where they come from."""

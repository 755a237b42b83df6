"""The training loop, its schedule, its optimiser and its checkpoints."""

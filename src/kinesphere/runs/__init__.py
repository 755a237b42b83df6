"""From input files to a finished run folder, and a finished run opened again."""

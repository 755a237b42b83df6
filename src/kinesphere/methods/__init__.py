"""One file a method: its options, what it reads, what it moves and how it is restrained."""

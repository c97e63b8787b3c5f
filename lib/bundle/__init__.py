"""What a run leaves: the sealed folder, its pages, its signature, and what reads it again."""

"""What a channel contributes to a class, and the masks that follow (MDA, section 3.1)."""

"""What foretells a network's accuracy before it is tuned, and how well."""

"""The page: draws what stages have written, and computes nothing."""

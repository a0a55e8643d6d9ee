"""Components side by side in one network: padded or parallel, their scores made comparable (MDA, section 3.2)."""

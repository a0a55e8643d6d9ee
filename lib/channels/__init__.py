"""Across the width: which channels stand and fall together, and a network without some of them (MDA, section 3.1)."""

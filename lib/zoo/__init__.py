"""The shelf: what builds a network, what fills it with weights without running code, what is known of it."""

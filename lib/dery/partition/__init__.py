"""The cover-set partition into equivalence sets of blocks (DeRy, section 3.3): problem, solvers, bounds."""

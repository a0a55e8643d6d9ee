"""Which network supplies which class within a budget: problem, solution, and what comes of it."""

"""Model LEGO (NeurIPS 2024): contributions, components, assembly, and the choice of components within a budget."""

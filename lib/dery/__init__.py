"""Deep Model Reassembly (NeurIPS 2022): activations, similarity, partition, paths, assembly and tuning."""

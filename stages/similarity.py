"""Stage `similarity`: how similar the outputs of all nodes of all networks are."""

from pathlib import Path

import pandas as pd
import torch

from lib import artifacts
from lib.dery import activations as lib_activations
from lib.dery import similarity
from lib.params.base import read
from lib.params.run import Run
from lib.params.similarity import Similarity
from lib.params.zoo import Zoo
from lib.report import figures
from stages import prepare, run


def main(activations: Path, out: Path, metrics: Path) -> None:
    """Writes the matrix [nodes, nodes] as safetensors, as a long table and as a heat map."""
    read("similarity", Similarity)
    names = sorted(read("zoo", Zoo).models)
    prepare(read("run", Run))
    artifacts.keep_only(activations, names)
    labels, matrices = lib_activations.load(activations, names)
    matrix = similarity.cka(matrices)
    artifacts.write_tensors(out / "similarity.safetensors", {"similarity": matrix})
    artifacts.write_json(out / "nodes.json", [{"model": model, "node": node} for model, node in labels])
    rows = [(*labels[i], *labels[j], float(matrix[i, j])) for i in range(len(labels)) for j in range(i, len(labels))]
    artifacts.write_csv(
        out / "similarity.csv", pd.DataFrame(rows, columns=["model_a", "node_a", "model_b", "node_b", "cka"])
    )
    artifacts.write_text(out / "similarity.svg", figures.heat_map(matrix.numpy(), [m for m, _ in labels]))
    between = torch.tensor([[a != b for b, _ in labels] for a, _ in labels])
    mean = float(matrix[between].mean())
    artifacts.write_json(metrics, {"nodes": len(labels), "cka_between_networks_mean": mean})


if __name__ == "__main__":
    run(main)

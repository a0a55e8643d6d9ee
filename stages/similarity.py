"""Stage `similarity`: how similar the outputs of all nodes of all networks are."""

from pathlib import Path

from lib.base import artifacts, environment
from lib.base.memo import Memo
from lib.dery import activations as lib_activations
from lib.dery.similarity import rows
from lib.dery.similarity.index import find
from lib.dery.similarity.layers import Network
from lib.dery.similarity.matrix import matrix
from lib.params.base import read
from lib.params.run import Run
from lib.params.similarity import Similarity
from lib.params.zoo import Zoo
from stages import SCRATCH, prepare, run

MEMO = SCRATCH / "similarity"  # what has been compared before; no result depends on it


def main(activations: Path, out: Path, metrics: Path) -> None:
    """Writes the matrix [nodes, nodes] as safetensors and as a long table; nodes.json names its rows."""
    params = read("similarity", Similarity)
    names = sorted(read("zoo", Zoo).models)
    device = prepare(read("run", Run))
    artifacts.keep_only(activations, names)
    found = lib_activations.load(activations, names)
    similar = matrix([Network.of(net, device) for net in found], params, environment.memory(), Memo(MEMO))
    nodes, title = rows.nodes(found), find(params.index).TITLE
    artifacts.write_tensors(out / "similarity.safetensors", {"similarity": similar})
    artifacts.write_json(out / "nodes.json", {"nodes": nodes}, environment.machine())
    artifacts.write_csv(out / "similarity.csv", rows.long_form(similar, nodes, params.index))
    artifacts.write_metrics(metrics, {"index": title, "nodes": len(nodes), **rows.means(similar, nodes)})


if __name__ == "__main__":
    run(main)

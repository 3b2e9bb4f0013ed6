"""Take a ticket away as ONNX and run it in onnxruntime (`pip install 'lth[onnx]'`).

python examples/export_to_onnx.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import onnxruntime

import lth
from lth.data import ImageData, load_dataset
from lth.store import Store
from lth.sweep.extraction import collect
from lth.tickets import save


def main(folder: Path) -> None:
    """FOLDER/ticket must not be there yet: files are never overwritten."""
    results = lth.run(
        "smoke", seeds=[0], store=folder / "store", settings=["arms=[ticket]", "pruning.levels=4"], progress=False
    )
    # Stores keep masks and no weights: the ticket is trained once more, and held against what the store says of it.
    ticket = collect(Store(folder / "store"), results.experiment_id, seed=0, level=4)
    for file in save(ticket, folder / "ticket", ("onnx", "safetensors")):
        print(f"{file.name}: {file.stat().st_size:,} bytes")

    digits = load_dataset("digits")
    assert isinstance(digits, ImageData)
    session = onnxruntime.InferenceSession(folder / "ticket" / "ticket.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"pixels": digits.test_inputs.float().numpy()})  # raw: it standardises itself
    accuracy = float((logits.argmax(1) == digits.test_labels.numpy()).mean())
    print(f"{ticket.card.weights_remaining:,} of {ticket.card.weights_total:,} weights")
    print(f"test accuracy in onnxruntime {accuracy:.4f}, in the store {ticket.card.test_score:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))

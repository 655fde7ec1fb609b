"""The models of the service, as the Open Inference Protocol describes them."""

from __future__ import annotations

from collections.abc import Mapping

from .gan import checkpoint
from .gan.networks import IMAGE_SIZE, LATENT_DIM
from .version import VERSION


def described(files: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """The metadata of each model by its name. `files` are the digests of the checkpoint's files by their names."""

    def tensor(name: str, datatype: str, *shape: int) -> dict[str, object]:
        return {"name": name, "datatype": datatype, "shape": shape}

    def model(name: str, version: str, inputs: list[object], outputs: list[object]) -> dict[str, object]:
        platform = "numba" if name == "em" else "pytorch"
        return {"name": name, "versions": [version], "platform": platform, "inputs": inputs, "outputs": outputs}

    return {
        "em": model(
            "em",
            VERSION,
            [tensor("source", "FP64", -1, -1), tensor("target", "FP64", -1, -1)],
            [tensor("translation", "FP64", -1), tensor("matching", "INT64", -1)],
        ),
        "vae": model(
            "vae",
            VERSION,
            [tensor(name, "FP64", -1, -1) for name in ("mu", "sigma", "grad_z", "noise")],
            [tensor(name, "FP64", -1, -1) for name in ("z", "grad_mu", "grad_sigma")],
        ),
        "gan": model(
            "gan",
            files[checkpoint.GENERATOR_FILE][:12],
            [tensor("latents", "FP32", -1, LATENT_DIM)],
            [tensor("images", "UINT8", -1, IMAGE_SIZE, IMAGE_SIZE), tensor("probability", "FP32", -1)],
        ),
    }

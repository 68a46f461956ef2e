"""Make fastclip/data/sample_files/*.safetensors from npz files of published features.

    python tests/data/make_samples.py SOURCE DESTINATION

SOURCE holds ``paired_coco500_vitb16.npz`` (image_features, text_features, image_id, caption) and
``text_vitb32_{lvis,objects365,openimages,coco}.npz`` (text_features, names). The features are
those of the files listed in fastclip/data/sample_files/README.md. The same input gives the same
bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from fastclip.data import FeatureMetadata, Features, write_features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()

    # The pairs were normalised in half precision: norms are 0.9994 to 1.0006, so not "normalized".
    pairs = FeatureMetadata("ViT-B-16-quickgelu", "openai", None, normalized=False)
    with np.load(arguments.source / "paired_coco500_vitb16.npz", allow_pickle=False) as source:
        for name, array, names in (
            ("coco-images", "image_features", "image_id"),
            ("coco-captions", "text_features", "caption"),
        ):
            features = Features(
                torch.from_numpy(source[array]), [str(x) for x in source[names].tolist()], pairs
            )
            write_features(arguments.destination / f"{name}.safetensors", features)

    classes = FeatureMetadata("ViT-B-32-quickgelu", "openai", "a {}", normalized=False)
    for name in ("lvis", "objects365", "openimages", "coco"):
        with np.load(arguments.source / f"text_vitb32_{name}.npz", allow_pickle=False) as source:
            features = Features(
                torch.from_numpy(source["text_features"]), source["names"].tolist(), classes
            )
            write_features(arguments.destination / f"{name}.safetensors", features)


if __name__ == "__main__":
    main()

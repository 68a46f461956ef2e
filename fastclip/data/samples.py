"""Small sets of real CLIP features that come with the package."""

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from fastclip.data.checks import check_choice

from .features import Features
from .reading import read_features

_SAMPLES = {
    "coco-images": "500 images of COCO val2017, OpenAI CLIP ViT-B/16; named by image id",
    "coco-captions": "one caption of each of coco-images, in the same order, ViT-B/16",
    "lvis": "1,203 class names of LVIS, OpenAI CLIP ViT-B/32",
    "objects365": "365 class names of Objects365, OpenAI CLIP ViT-B/32",
    "openimages": "500 class names of Open Images, OpenAI CLIP ViT-B/32",
    "coco": "80 class names of COCO, OpenAI CLIP ViT-B/32",
}


def samples() -> dict[str, str]:
    """Return the names of the samples with a line on each.

    Never compare rows of different models: their features do not share a space.

    Examples
    --------
    >>> from fastclip.data import samples
    >>> list(samples())
    ['coco-images', 'coco-captions', 'lvis', 'objects365', 'openimages', 'coco']
    """
    return dict(_SAMPLES)


def load_sample(name: str) -> Features:
    """Load real features by name, memory-mapped, in the bits in which they were published.

    Parameters
    ----------
    name : str
        One of `samples`.

    Returns
    -------
    Features
        ``coco-images`` and ``coco-captions``: [500, 512] float32 of norm 0.9994 to 1.0006, since
        they were normalised in half precision. The class names: [V, 512] float16, not normalised.
        Call `Features.normalized` for unit rows.

    Raises
    ------
    ValueError
        No sample has this name.

    Examples
    --------
    >>> from fastclip.data import load_sample
    >>> coco = load_sample("coco")
    >>> coco.names[:3], coco.features.shape, coco.metadata.template
    (('person', 'bicycle', 'car'), torch.Size([80, 512]), 'a {}')
    """
    check_choice("name", name, _SAMPLES)
    with sample_file(name) as path:
        return read_features(path)


def sample_file(name: str) -> AbstractContextManager[Path]:
    """Return the file of a sample, which must be one."""
    return as_file(files(__package__) / "sample_files" / f"{name}.safetensors")

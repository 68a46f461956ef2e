"""Heat maps of tags, the masks made of them, and their union: differentiable, in plain torch."""

from collections.abc import Sequence

import torch

from fastclip.ttd._counts import as_counts, check_features


def tag_maps(
    pixel_features: torch.Tensor, tag_features: torch.Tensor, counts: Sequence[int] | None = None
) -> torch.Tensor:
    """Return each tag's heat map in its own image: ``A_i(p) = <v_p, u_i>``.

    Cosines, if pixels and tags have unit length. Differentiable; also for captions (one "tag"
    per image).

    Parameters
    ----------
    pixel_features : tensor [B, d, h, w]
    tag_features : tensor [T, d]
        Those of image 0 first, then those of image 1, and so on.
    counts : sequence of B ints, optional
        How many tags each image has, in all T; may be 0. Default, for one image: T.

    Returns
    -------
    tensor [T, h, w]

    Raises
    ------
    ValueError
        A shape is wrong, or counts do not add up.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import tag_maps
    >>> pixels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    >>> tag_maps(pixels, torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    tensor([[[1.0000, 0.0000]],
            [[0.6000, 0.8000]]])
    """
    check_features(pixel_features, tag_features)
    images, _, h, w = pixel_features.shape
    own = tag_features.split(as_counts(counts, len(tag_features), images))
    maps = [
        tags @ pixels for tags, pixels in zip(own, pixel_features.flatten(2), strict=True)
    ]  # no image meets another's tags
    return torch.cat(maps).view(len(tag_features), h, w)


def tag_masks(
    maps: torch.Tensor, selected: torch.Tensor | None = None, *, eps: float = 1e-6
) -> torch.Tensor:
    """Return masks from 0 to 1: min-max over the pixels of each map, 0 for tags not selected.

    ``Y_i(p) = (A_i(p) - min A_i) / (max A_i - min A_i + eps)`` where i is selected, else 0: a map
    of what is not there would stretch its noise over the full range. The targets of TTD;
    differentiable, so detach what is to be a target.

    Parameters
    ----------
    maps : tensor [T, h, w]
    selected : bool tensor [T], optional
        Default: all.
    eps : float, at least 0
        Keeps constant maps at 0.

    Returns
    -------
    tensor [T, h, w]

    Raises
    ------
    TypeError
        selected is no bool tensor.
    ValueError
        A shape is wrong.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import tag_masks
    >>> maps = torch.tensor([[[0.1, 0.2, 0.3]], [[0.5, 0.6, 0.4]]])
    >>> tag_masks(maps, torch.tensor([True, False]))
    tensor([[[0.0000, 0.5000, 1.0000]],
            [[0.0000, 0.0000, 0.0000]]])
    """
    _check_maps("maps", maps)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    masks = (maps - low) / (high - low + eps)
    if selected is None:
        return masks
    if selected.dtype != torch.bool:
        raise TypeError(f"selected: a bool tensor is needed, got {selected.dtype}")
    if selected.shape != maps.shape[:1]:
        raise ValueError(
            f"selected: shape ({len(maps)},), one for each map, is needed, "
            f"got {tuple(selected.shape)}"
        )
    return torch.where(selected[:, None, None], masks, 0.0)


def text_mask(masks: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
    """Return the mask of each whole caption: the union of its tags' masks, their maximum.

    ``U(p) = max_i Y_i(p)``, 0 where an image has no tags. What TTD trains the caption's own heat
    map towards.

    Parameters
    ----------
    masks : tensor [T, h, w]
        From 0 to 1, as of `tag_masks`; those of image 0 first.
    counts : sequence of B ints, optional
        As in `tag_maps`. Default: all are one image's.

    Returns
    -------
    tensor [B, h, w]

    Raises
    ------
    ValueError
        A shape is wrong, or counts do not add up.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import text_mask
    >>> masks = torch.tensor([[[0.0, 1.0, 0.2]], [[1.0, 0.5, 0.0]]])
    >>> text_mask(masks, [2, 0])
    tensor([[[1.0000, 1.0000, 0.2000]],
            [[0.0000, 0.0000, 0.0000]]])
    """
    _check_maps("masks", masks)
    own = masks.split(as_counts(counts, len(masks), None))
    return torch.stack([m.amax(0) if len(m) else masks.new_zeros(masks.shape[1:]) for m in own])


def _check_maps(name: str, maps: torch.Tensor) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(
            f"{name}: shape [T, h, w] with at least one pixel is needed, got {tuple(maps.shape)}"
        )

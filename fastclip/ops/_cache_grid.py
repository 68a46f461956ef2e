"""Which pairs of alpha and beta classify images right, for `fastclip.coder`."""

import torch

from fastclip.engine.kernels import run


def cache_grid(
    affinities: torch.Tensor,
    zero_shot: torch.Tensor,
    labels: torch.Tensor,
    support_labels: torch.Tensor,
    betas: tuple[float, float, int],
    alphas: torch.Tensor,
) -> torch.Tensor:
    r"""Return how many images have the largest score for their label, int64 [B, A].

    .. math:: \mathrm{zero\_shot}_{ic}
        + \alpha \sum_{j : l_j = c} \exp(-\beta (1 - \mathrm{affinity}_{ij}))

    in float64; of equal scores the lower class counts. Neither scores nor sums of more than one
    image and beta are held: memory is a few numbers per support image and per pair, for each
    thread.

    Parameters
    ----------
    affinities : float64 tensor [N, M], on the CPU as all others
    zero_shot : float64 tensor [N, C], C >= 1
    labels : int64 tensor [N]
        From 0 to C - 1.
    support_labels : int64 tensor [M]
        From 0 to C - 1.
    betas : (first, step, B)
        Equally far apart.
    alphas : float64 tensor [A]
        Above 0; they ascend.
    """
    right = torch.zeros(betas[2], len(alphas), dtype=torch.int64, device="cpu")
    tensors = affinities, zero_shot, labels, support_labels
    run("cache_grid", *(x.contiguous() for x in tensors), *betas[:2], alphas.contiguous(), right)
    return right

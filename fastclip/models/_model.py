"""A CLIP model as two functions, of images and of texts, and one of the pixels of images."""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, SupportsIndex

import torch
import torch.nn.functional as F
from torch import nn

from fastclip.data.checks import check_at_least, check_strings
from fastclip.data.progress import progress as show_progress
from fastclip.data.templates import check_templates
from fastclip.models._dense import check_method, pixel_features, tower_of
from fastclip.models._images import Picture, as_rgb, check_pictures
from fastclip.models._text import pooled, text_features

_INPUTS = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Model:
    """A CLIP model, made by `fastclip.models.load`.

    All features are float32 rows of unit length on `device`, without gradients. Dropout and batch
    statistics are off while they are computed, also if `module` is in training mode. To train, call
    `module`, the model of open_clip, and `fastclip.models.pixel_features`.

    Attributes
    ----------
    module : torch.nn.Module
        The model of open_clip.
    preprocess : callable
        From a PIL image to a tensor ``[3, *image_size]``, as open_clip does it for this model.
    dim : int
        d, the length of a row of features.
    precision : str
        As given to `load`.
    """

    def __init__(
        self,
        module: Any,
        *,
        make_tokenizer: Callable[[], Callable[[list[str]], torch.Tensor]],
        dim: int,
        precision: str = "fp32",
    ) -> None:
        import open_clip

        self.module = module
        self.dim = dim
        self.precision = precision
        self._config = open_clip.transform.PreprocessCfg(**module.visual.preprocess_cfg)
        self.preprocess: Callable[[Any], torch.Tensor] = open_clip.transform.image_transform_v2(
            self._config, is_train=False
        )
        self._make_tokenizer = make_tokenizer

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """From a list of N texts to int64 [N, context length]; longer texts are cut."""
        return self._make_tokenizer()

    @property
    def device(self) -> torch.device:
        """Where the weights are, and the features will be."""
        device: torch.device = next(self.module.parameters()).device
        return device

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the images that `encode_image` takes."""
        size = self.module.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels of a cell of `encode_pixels`; None where that is undefined."""
        try:
            return tower_of(self.module.visual).patch_size
        except ValueError:
            return None

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by; the exponential of the model's parameter, so about 100.

        ``softmax(logit_scale * image_features @ text_features.T)`` are CLIP's probabilities.
        """
        return float(self.module.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What SigLIP adds to scaled cosines before its sigmoid; None for other models."""
        bias = self.module.logit_bias if hasattr(self.module, "logit_bias") else None
        return None if bias is None else float(bias.detach())

    def prepare(
        self,
        images: Sequence[Picture] | torch.Tensor,
        *,
        size: Sequence[SupportsIndex] | None = None,
    ) -> torch.Tensor:
        """Preprocess images, all at once, into what the model's image tower takes.

        Parameters
        ----------
        images : sequence of PIL images, paths and float tensors [3, H, W], or tensor [B, 3, H, W]
            Files are turned upright by their EXIF data; transparent pixels become white. Tensors
            are taken for preprocessed.
        size : (H, W), optional
            Resize PIL images and files to this, whatever their aspect, and crop nothing. Default:
            `preprocess`, which for most models crops the centre. Tensors are never resized.

        Returns
        -------
        tensor [B, 3, H, W], of the number type that the weights need, on `device`

        Raises
        ------
        TypeError, ValueError, FileNotFoundError
            An image is none, is missing, or differs from the others in size.
        """
        check_pictures("images", images)
        return self._prepare(images, self._transform(size))

    def encode_image(
        self,
        images: Sequence[Picture] | torch.Tensor,
        *,
        batch_size: SupportsIndex = 64,
        progress: bool = False,
    ) -> torch.Tensor:
        """Features of images.

        Parameters
        ----------
        images : sequence of N PIL images, paths and float tensors [3, H, W], or tensor [N, 3, H, W]
            As in `prepare`; tensors must have the model's `image_size`. N = 0 is allowed. Files
            are opened batch by batch.
        batch_size : int, at least 1
        progress : bool
            Show a bar on stderr, where that is a terminal.

        Returns
        -------
        tensor [N, d], float32, unit rows

        Raises
        ------
        TypeError, FileNotFoundError
            An image is none or is missing.
        ValueError
            A tensor has another shape, batch_size is out of range, or features came out as NaN or
            infinity.

        Examples
        --------
        >>> import fastclip
        >>> from PIL import Image
        >>> model = fastclip.models.load("ViT-S-32-alt", "random")
        >>> red = Image.new("RGB", (300, 200), "red")
        >>> model.encode_image([red, model.preprocess(red)]).shape
        torch.Size([2, 256])
        """
        check_pictures("images", images)
        self._check_size(images)

        def encode(start: int, stop: int) -> torch.Tensor:
            batch = self._prepare(images[start:stop], self.preprocess)
            return pooled(self.module.encode_image(batch, normalize=False))

        return self._encode("images", len(images), batch_size, progress, encode)

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        batch_size: SupportsIndex = 256,
        templates: Sequence[str] | None = None,
        unit_prompts: bool = True,
        progress: bool = False,
    ) -> torch.Tensor:
        """Features of texts, or of names in prompts.

        Parameters
        ----------
        texts : sequence of N str
            Cut at the context length of the model, as open_clip does. N = 0 is allowed.
        batch_size : int, at least 1
            How many texts or prompts are encoded at once.
        templates : sequence of T str, optional
            Each has one ``{}``, which the texts take the place of: `fastclip.models.templates`.
            The feature of a text is then the mean of the unit rows of its T prompts, scaled to
            unit length.
        unit_prompts : bool
            Whether prompts are scaled to unit length before the mean, as everywhere but in TCL.
        progress : bool
            Show a bar on stderr, where that is a terminal.

        Returns
        -------
        tensor [N, d], float32, unit rows

        Raises
        ------
        TypeError
            texts or templates are no sequence of str.
        ValueError
            There are no templates, one has not one ``{}``, batch_size is out of range, or features
            came out as NaN or infinity.
        ImportError
            The tokenizer needs a package that is missing, such as transformers.

        Examples
        --------
        >>> import fastclip
        >>> model = fastclip.models.load("ViT-S-32-alt", "random")
        >>> model.encode_text(["cat", "dog"], templates=["a {}.", "a photo of a {}."]).shape
        torch.Size([2, 256])
        """
        check_strings("texts", texts)
        if templates is not None:
            check_templates(templates)
        patterns = ["{}"] if templates is None else list(templates)
        size = _at_least_one("batch_size", batch_size)

        def encode(start: int, stop: int) -> torch.Tensor:
            prompts = [p.replace("{}", text) for text in texts[start:stop] for p in patterns]
            rows = torch.cat(
                [self._encode_prompts(prompts[i : i + size]) for i in range(0, len(prompts), size)]
            )
            if len(patterns) == 1:
                return rows
            rows = F.normalize(rows.float(), dim=1) if unit_prompts else rows.float()
            return rows.reshape(stop - start, len(patterns), -1).mean(1)

        at_once = max(1, size // len(patterns))
        return self._encode("texts", len(texts), at_once, progress, encode)

    def encode_pixels(
        self,
        images: Sequence[Picture] | torch.Tensor,
        *,
        method: str = "value",
        size: Sequence[SupportsIndex] | None = None,
        antialias: bool = False,
        batch_size: SupportsIndex = 16,
        progress: bool = False,
    ) -> torch.Tensor:
        """Features of the patches of images, in the space of the texts, without pooling.

        ================ ==========================================================================
        ``"value"``      MaskCLIP: each patch attends to itself alone in the last attention, so that
                         this returns its value. In open_clip's ViTs the last block becomes
                         ``z = x + out_proj(v(ln_1(x)))``, ``z = z + mlp(ln_2(z))``, followed by
                         ``ln_post`` and the projection; the last attention of ResNets and SigLIP is
                         their pooling: ``c_proj(v_proj(x))``, and the pooling's own MLP. ConvNeXt
                         has none: its head is applied to each cell.
        ``"value-only"`` ``z = out_proj(v(ln_1(x)))`` in the last block, without its residual and
                         MLP. open_clip's ViTs only.
        ``"plain"``      The last block as it is. open_clip's ViTs only.
        ================ ==========================================================================

        MaskCLIP: Zhou, Loy, Dai, *Extract Free Dense Labels from CLIP*, ECCV 2022.

        Position embeddings are interpolated (bicubic) to the grid of patches, h by w.
        Sides that are no multiple of `patch_size` are padded with zeros, the mean colour, at the
        bottom and on the right: cell (y, x) covers the pixels from (y, x) * patch_size on.

        Parameters
        ----------
        images : sequence of B PIL images, paths and float tensors [3, H, W], or tensor [B, 3, H, W]
            As in `prepare`; B at least 1, of any size and aspect, but all of them of one.
        method : str
        size : (H, W), optional
            Resize PIL images and files to this, as in `prepare`.
        antialias : bool
            Interpolate position embeddings as open_clip does when it loads weights for another
            image size. Default: without antialiasing, as MaskCLIP and TCL do. The kernels differ
            for larger grids, too: on public models, 1 to 3.4 % of labels at 448 pixels.
        batch_size : int, at least 1
        progress : bool
            Show a bar on stderr, where that is a terminal.

        Returns
        -------
        tensor [B, d, ceil(H / patch height), ceil(W / patch width)], float32
            Unit length along d.

        Raises
        ------
        TypeError, ValueError, FileNotFoundError
            As `encode_image`, or the model's image tower or the method is not supported, or sizes
            differ or are out of range.

        Examples
        --------
        >>> import fastclip
        >>> from PIL import Image
        >>> model = fastclip.models.load("ViT-S-32-alt", "random")
        >>> red = Image.new("RGB", (300, 200), "red")
        >>> model.encode_pixels([red], size=(200, 300)).shape  # patches of 32 x 32
        torch.Size([1, 256, 7, 10])
        """
        check_pictures("images", images)
        if len(images) == 0:
            raise ValueError("images: at least one image is needed, got none")
        check_method(self.module.visual, method)
        transform = self._transform(size)

        def encode(start: int, stop: int) -> torch.Tensor:
            batch = self._prepare(images[start:stop], transform)
            return pixel_features(self.module, batch, method=method, antialias=antialias)

        return self._encode("images", len(images), batch_size, progress, encode)

    def _encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(prompts).to(self.device)
        return text_features(self.module, tokens)

    def _encode(
        self,
        name: str,
        count: int,
        batch_size: SupportsIndex,
        shown: bool,
        encode: Callable[[int, int], torch.Tensor],
    ) -> torch.Tensor:
        """Unit features of ``count`` inputs, by ``encode``, which takes the ends of a batch."""
        size = _at_least_one("batch_size", batch_size)
        batches = []
        with torch.no_grad(), _evaluating(self.module), self._autocast():
            for start in _track(range(0, count, size), name, shown):
                batch = F.normalize(encode(start, min(start + size, count)).float(), dim=1)
                self._check_finite(name, batch, start)
                batches.append(batch)
        if not batches:
            return torch.empty(0, self.dim, device=self.device)
        if any(batch.shape[1:] != batches[0].shape[1:] for batch in batches):
            raise ValueError(f"{name}: must all be of one size")
        return torch.cat(batches)

    def _check_finite(self, name: str, batch: torch.Tensor, start: int) -> None:
        finite = batch.flatten(1).isfinite().all(1)
        if not finite.all():
            raise ValueError(
                f"{name}: the features of number {start + int(finite.int().argmin())} came out as "
                f"NaN or infinity with precision {self.precision!r}"
            )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "amp")

    def _transform(self, size: Sequence[SupportsIndex] | None) -> Callable[[Any], torch.Tensor]:
        if size is None:
            return self.preprocess
        if len(size) != 2:
            raise ValueError(f"size: two numbers (H, W) are needed, got {tuple(size)}")
        import open_clip

        shape = tuple(_at_least_one("size", n) for n in size)
        config = replace(self._config, size=shape, resize_mode="squash")
        transform: Callable[[Any], torch.Tensor] = open_clip.transform.image_transform_v2(
            config, is_train=False
        )
        return transform

    def _prepare(
        self,
        images: Sequence[Picture] | torch.Tensor,
        transform: Callable[[Any], torch.Tensor],
    ) -> torch.Tensor:
        if not isinstance(images, torch.Tensor):
            tensors = [x if isinstance(x, torch.Tensor) else transform(as_rgb(x)) for x in images]
            shapes = sorted({tuple(tensor.shape[1:]) for tensor in tensors})
            if len(shapes) > 1:
                raise ValueError(f"images: must all be of one size (H, W), got {shapes}")
            images = torch.stack(tensors) if tensors else torch.empty(0, 3, *self.image_size)
        return images.to(self.device, _INPUTS.get(self.precision, torch.float32))

    def _check_size(self, images: Sequence[Picture] | torch.Tensor) -> None:
        tensors = [images] if isinstance(images, torch.Tensor) else images
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.shape[-2:] != self.image_size:
                raise ValueError(
                    f"images: the model takes {self.image_size} pixels (H, W), "
                    f"got {tuple(tensor.shape[-2:])}"
                )


def _track(starts: range, name: str, shown: bool) -> Iterator[int]:
    with show_progress(f"encoding {name}", name, shown=shown) as report:
        for start in starts:
            report(start, starts.stop)
            yield start


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _at_least_one(name: str, n: SupportsIndex) -> int:
    number = operator.index(n)
    check_at_least(1, **{name: number})
    return number

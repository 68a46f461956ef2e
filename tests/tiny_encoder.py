"""A small, untrained model of open_clip, with what embedding jobs need of a model."""

from __future__ import annotations

import open_clip
import torch
import torch.nn.functional as F


class TinyEncoder:
    precision = "fp32"
    dim = 16

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = open_clip.CLIP(
            embed_dim=self.dim,
            vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
            text_cfg={"context_length": 16, "width": 16, "heads": 2, "layers": 1},
        ).eval()
        self.preprocess = open_clip.image_transform(32, is_train=False)
        self.tokenizer = open_clip.SimpleTokenizer(context_length=16)
        self.batches: list[int] = []

    @torch.no_grad()
    def encode_image(self, images: torch.Tensor, *, batch_size: int) -> torch.Tensor:
        assert len(images) <= batch_size
        self.batches.append(len(images))
        return self.module.encode_image(images, normalize=True)

    @torch.no_grad()
    def encode_text(self, texts, *, batch_size, templates=None) -> torch.Tensor:
        assert len(texts) <= batch_size
        self.batches.append(len(texts))
        rows = [
            self.module.encode_text(
                self.tokenizer([template.replace("{}", text) for text in texts]), normalize=True
            )
            for template in templates or ["{}"]
        ]
        return F.normalize(torch.stack(rows).mean(0), dim=1)

"""What `ttd_tiny.py` says of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import difference, percent

from fastclip.models.tiny.train import SIDE

TTD = ("TTD, sigmoid", "TTD, min-max")
COLUMNS = (
    "image-tag f1", "text-tag f1", "pixel-tag f1", "image mAP", "pixel mAP", "caption IoU", "mIoU",
    "mFPR", "mFNR", "caption IoU at 0.40", "mIoU at 0.40", "caption dominance", "image dominance",
)  # fmt: skip
KEPT = ("zero-shot accuracy", "image to text R@1", "text to image R@1")
"""Figures that are shown, in percent."""

CLAIMS = (
    ("Pixel-tag scoring tells tags better than image-tag scoring (F1, before training)",
     "pixel-tag f1", "image-tag f1", None),
    ("Pixel-tag scoring tells tags better than text-tag scoring (F1, before training)",
     "pixel-tag f1", "text-tag f1", None),
    ("TTD raises the F1 of pixel-tag scoring", "pixel-tag f1", "before", 1),
    ("TTD raises caption IoU", "caption IoU", "before", 1),
    ("TTD raises mIoU", "mIoU", "before", 1),
    ("TTD lowers single-tag bias, captions against their tags", "caption dominance", "before", -1),
    ("TTD lowers single-tag bias, images against the tags", "image dominance", "before", -1),
    ("TTD raises caption IoU over contrastive training with the same scenes", "caption IoU",
     "contrastive", 1),
    ("TTD raises mIoU over contrastive training with the same scenes", "mIoU", "contrastive", 1),
    ("Zero-shot accuracy stays within 2 points of that before", "zero-shot accuracy", "before", 0),
    ("Retrieval of images stays within 2 points of that before", "text to image R@1", "before", 0),
)  # fmt: skip


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """One sentence per claim: whether it holds, with the difference and its interval."""
    lines = []
    for claim, name, other, sign in CLAIMS:
        if sign is None:
            gap = found["before"][0][name] - found["before"][0][other]
            lines.append(f"{claim}: {'holds' if gap > 0 else 'does not hold'} ({100 * gap:+.1f}).")
            continue
        said = []
        for arm in TTD:
            before = {**found, "before": found["before"] * len(found[arm])}
            mean, half = difference(before, arm, other, name)
            if sign == 0:
                word = "holds" if mean - half > -0.02 else "does not hold"
            elif sign * mean - half > 0:
                word = "holds"
            else:
                word = "the opposite holds" if sign * mean + half < 0 else "not decided"
            said.append(f"{arm}: {word} ({100 * mean:+.1f} ± {100 * half:.1f})")
        lines.append(f"{claim}. {'; '.join(said)}.")
    return lines


def table(found: Mapping[str, Any], prefix: str, columns: Sequence[str]) -> list[str]:
    lines = [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for name in columns:
        cells = [percent([row[prefix + name] for row in rows]) for rows in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def report(found: Mapping[str, Any], settings: Mapping[str, Any], command: str) -> str:
    before = found["before"][0]
    lines = [
        "# TTD on the small model",
        "",
        f"`{command}`",
        "",
        f"{settings['steps']} steps of {settings['batch_size']} scenes of {SIDE} x {SIDE} pixels, "
        f"learning rate {settings['lr']}, {settings['seeds']} seeds; percent, mean and 95 % "
        "interval over seeds (Student's t). Every caption names the two things that its scene "
        "shows and a third one; tags are its nouns, by `extract_tags`.",
        "",
        f"## {settings['test_scenes']} scenes of {settings['test_side']} pixels",
        "",
        "By an artwork set that no training has seen, masks exact. The constant background is "
        "chosen on scenes of training drawings for each model alike (caption IoU), and once that "
        "of the paper, 0.40 on sigmoid(10 cosine - 2.5). mIoU: a scene is asked for the three "
        "things that its caption names; mean over names. Dominance: `single_tag_bias` of the shown "
        f"tags, scale 10. Of the tags, {100 * before['positive rate']:.1f} % are shown.",
        "",
        *table(found, "", [*COLUMNS, *KEPT]),
        "",
        *(f"- {line}" for line in verdicts(found)),
        "",
    ]
    if "photographs: mIoU" in before:
        lines += [
            "## 47 photographs of COCO",
            "",
            "The small model was trained on drawings and hardly knows photographs: the measures "
            "work on real masks and captions, but these figures say little of TTD. Caption IoU: "
            "any labelled class against the five captions. Tags: the labelled classes and as many "
            "others. mIoU: asked for the labelled classes.",
            "",
            *table(found, "photographs: ", COLUMNS),
            "",
        ]
    return "\n".join(lines)

"""CLIP_benchmark with models of fastclip, and its two zero-shot tasks by functions of fastclip.

``python -m fastclip.adapters.clip_benchmark eval --model_type fastclip --model tiny ...`` is the
command ``clip_benchmark`` after `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fastclip.metrics import retrieval
from fastclip.models import load
from fastclip.ops import rank, similarity, topk

MODEL_TYPE = "fastclip"


def register() -> None:
    """Make ``"fastclip"`` a model type of CLIP_benchmark, and compute two of its tasks here.

    The tasks are ``zeroshot_retrieval`` and ``zeroshot_classification``, for all model types.

    Raises
    ------
    ImportError
        CLIP_benchmark is not installed.

    Examples
    --------
    >>> from fastclip.adapters import clip_benchmark
    >>> clip_benchmark.register()  # doctest: +SKIP
    >>> from clip_benchmark.models import load_clip  # doctest: +SKIP
    >>> model, transform, tokenizer = load_clip("fastclip", "tiny", "", "", "cpu")  # doctest: +SKIP
    """
    try:
        from clip_benchmark import models
        from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
    except ImportError as error:
        raise ImportError(
            "register: needs the package clip-benchmark: pip install clip-benchmark",
            name=error.name,
        ) from error
    models.TYPE2FUNC[MODEL_TYPE] = load_model
    if MODEL_TYPE not in models.MODEL_TYPES:  # a list that its command shares
        models.MODEL_TYPES.append(MODEL_TYPE)
    zeroshot_retrieval.evaluate = evaluate_retrieval
    zeroshot_classification.evaluate = evaluate_classification


def load_model(
    model_name: str = "tiny",
    pretrained: str | None = None,
    cache_dir: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor], Callable[[list[str]], torch.Tensor]]:
    """Load a model of `fastclip.models.load` as CLIP_benchmark wants it.

    Parameters
    ----------
    model_name, pretrained : str
        As ``name`` and ``pretrained`` there; an empty ``pretrained`` is none.
    cache_dir : str, optional
        Not used: open_clip's own cache is.
    device : str or torch.device

    Returns
    -------
    (module, transform, tokenizer)
        The model of open_clip with ``encode_image`` and ``encode_text``, what makes a tensor of a
        PIL image, and what makes token numbers of a list of texts.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As `fastclip.models.load`.

    Examples
    --------
    >>> from fastclip.adapters.clip_benchmark import load_model
    >>> module, transform, tokenizer = load_model("tiny")
    >>> module.encode_text(tokenizer(["a dog"])).shape
    torch.Size([1, 128])
    """
    model = load(model_name, pretrained or None, device=device)
    return model.module, model.preprocess, model.tokenizer


def evaluate_retrieval(
    model: Any,
    dataloader: Iterable[tuple[torch.Tensor, Sequence[Sequence[str]]]],
    tokenizer: Callable[[list[str]], torch.Tensor],
    device: str | torch.device,
    amp: bool = True,
    recall_k_list: Sequence[int] = (5,),
) -> dict[str, float]:
    """Return recall at k, as ``clip_benchmark.metrics.zeroshot_retrieval.evaluate`` does.

    By `fastclip.metrics.retrieval`: exact scores of the features, without the matrices of scores
    and of pairs, and a k that is larger than the number of images or texts is allowed.

    Parameters
    ----------
    model
        Has ``encode_image`` and ``encode_text``.
    dataloader : iterable of (images, texts)
        Images are a tensor, texts a list per image.
    tokenizer, device, amp
        As there.
    recall_k_list : sequence of int

    Returns
    -------
    dict of str to float
        ``image_retrieval_recall@k`` and ``text_retrieval_recall@k`` for each k.
    """
    images, texts, counts = [], [], []
    for pictures, captions in dataloader:
        tokens = tokenizer([text for own in captions for text in own])
        images.append(_encoded(model.encode_image, pictures, device, amp))
        texts.append(_encoded(model.encode_text, tokens, device, amp))
        counts += [len(own) for own in captions]
    of_text = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    found = retrieval(torch.cat(images), torch.cat(texts), of_text, ks=recall_k_list)
    return {
        f"{name}_retrieval_recall@{k}": summary.recall[k]
        for k in recall_k_list
        for name, summary in (("image", found.text_to_image), ("text", found.image_to_text))
    }


def evaluate_classification(
    model: Any,
    dataloader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    tokenizer: Callable[[list[str]], torch.Tensor],
    classnames: Sequence[str],
    templates: Sequence[str] | Mapping[str, Sequence[str]],
    device: str | torch.device,
    amp: bool = True,
    verbose: bool = False,
    save_clf: str | None = None,
    load_clfs: Sequence[str] = (),
) -> dict[str, float]:
    """Return accuracies, as ``clip_benchmark.metrics.zeroshot_classification.evaluate`` does.

    By `fastclip.rank`: exact scores of the features, without the matrix of logits. Equal scores go
    to the class of lower index. Where images have several classes (targets [B, C]), the scores of
    all are kept, and equal ones are one place of the ranking (`MeanAveragePrecision`, which needs
    torchmetrics); a class without images counts as 0 in the mean, as there.

    Parameters
    ----------
    model, dataloader, tokenizer, device, amp
        As for `evaluate_retrieval`; the data loader gives images and targets.
    classnames : sequence of C str
    templates : list of str with ``{c}``, or dict of class name to list of str
    verbose : bool
        Print precision and recall of each class, which needs scikit-learn.
    save_clf, load_clfs : paths, optional
        Where to save the class features [d, C], and files of such whose mean is used.

    Returns
    -------
    dict of str to float
        ``acc1``, ``acc5`` (NaN with fewer than five classes) and ``mean_per_class_recall``; or
        ``mean_average_precision``.
    """
    if load_clfs:
        loaded = [torch.load(path, map_location=device, weights_only=True) for path in load_clfs]
        classifier = torch.stack(loaded).mean(0)
    else:
        classifier = torch.stack(
            [
                _class_feature(model, tokenizer, _prompts(name, templates), device, amp)
                for name in classnames
            ],
            dim=1,
        )
    if save_clf is not None:
        torch.save(classifier, save_clf)
    classes = classifier.T.cpu().contiguous()
    images, targets = [], []
    for pictures, target in dataloader:
        images.append(_encoded(model.encode_image, pictures, device, amp))
        targets.append(target.cpu())
    rows, truth = torch.cat(images), torch.cat(targets)
    if truth.ndim == 2:
        return _of_several_classes(rows, classes, truth, classnames if verbose else ())
    ranks = rank(rows, classes, truth)
    right = (ranks < 1).double()
    per_class = torch.bincount(truth, right) / torch.bincount(truth)
    if verbose:
        from sklearn.metrics import classification_report

        predicted = topk(rows, classes, 1).indices[:, 0]
        print(classification_report(truth, predicted, digits=3))
    return {
        "acc1": float(right.mean()),
        "acc5": float((ranks < 5).double().mean()) if len(classes) >= 5 else float("nan"),
        "mean_per_class_recall": float(per_class.nanmean()),
    }


def _of_several_classes(
    images: torch.Tensor, classes: torch.Tensor, truth: torch.Tensor, shown: Sequence[str]
) -> dict[str, float]:
    from fastclip.metrics import MeanAveragePrecision

    metric = MeanAveragePrecision(len(classes))
    metric.update(similarity(images, classes), truth > 0)
    of_classes = metric.compute().of_tags.nan_to_num(0.0)
    for name, precision in zip(shown, of_classes.tolist(), strict=False):
        print(f"Class: {name}, AveragePrecision: {precision}")
    return {"mean_average_precision": float(of_classes.mean())}


def _prompts(name: str, templates: Sequence[str] | Mapping[str, Sequence[str]]) -> list[str]:
    if isinstance(templates, Mapping):
        return list(templates[name])
    return [template.format(c=name) for template in templates]


def _class_feature(
    model: Any,
    tokenizer: Callable[[list[str]], torch.Tensor],
    prompts: list[str],
    device: str | torch.device,
    amp: bool,
) -> torch.Tensor:
    rows = _encoded(model.encode_text, tokenizer(prompts), device, amp)
    return F.normalize(rows.mean(0), dim=0)


def _encoded(
    encode: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    device: str | torch.device,
    amp: bool,
) -> torch.Tensor:
    """Unit rows, on the CPU."""
    kind = torch.device(device).type
    with torch.no_grad(), torch.autocast(kind, enabled=amp):
        return F.normalize(encode(inputs.to(device)), dim=-1).cpu()


def main() -> None:
    """Run the command of CLIP_benchmark."""
    register()
    from clip_benchmark.cli import main as run

    run()


if __name__ == "__main__":
    main()

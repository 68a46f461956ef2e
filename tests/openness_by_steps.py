"""The protocols of the paper, step by step on dense scores: float64, short, slow."""

from __future__ import annotations

import itertools

import numpy as np


def predict(scores, classes):
    """The best of ``classes`` for each row; of equal ones the first in the list."""
    classes = np.asarray(classes)
    return classes[scores[:, classes].argmax(1)]


def steps(scores, labels, groups, order, *, in_order=False):
    """Acc(U) and Acc(V | U) for U = the first 1, 2, ... groups of ``order``, V the first."""
    pooled, conditional = [], []
    for count in range(1, len(order) + 1):
        present = order[:count]
        if in_order:
            classes = [c for g in present for c in np.flatnonzero(groups == g)]
        else:
            classes = np.flatnonzero(np.isin(groups, present))
        images = np.isin(groups[labels], present)
        right = predict(scores, classes) == labels
        pooled.append(right[images].mean())
        own = [c for c in np.flatnonzero(groups == order[0]) if (labels == c).any()]
        conditional.append(np.mean([right[labels == c].mean() for c in own]))
    return pooled, conditional


def every_order(scores, labels, groups):
    """All orders of all targets: two arrays [M, (M - 1)!, M]."""
    count = groups.max() + 1
    table = [
        [
            steps(scores, labels, groups, [target, *rest])
            for rest in itertools.permutations([g for g in range(count) if g != target])
        ]
        for target in range(count)
    ]
    pooled, conditional = np.moveaxis(np.array(table), 2, 0)
    return pooled, conditional


def script(scores, labels, groups, trials, seed):
    """Follow the public script's ``incremental_evaluation``, its variable ``acc`` included."""
    np.random.seed(seed)  # noqa: NPY002
    names = [str(g) for g in range(groups.max() + 1)]
    acc_c, acc_e, acc_s = [], [], []
    for target in names:
        acc = steps(scores, labels, groups, [int(target)], in_order=True)[0][0]
        acc_c.append(acc)
        trial_e, trial_s = [], []
        for _ in range(trials):
            rest = np.random.permutation([n for n in names if n != target])  # noqa: NPY002
            extensibility, stability = [acc], []
            order = [int(target)]
            for name in rest:
                order.append(int(name))
                pooled, conditional = steps(scores, labels, groups, order, in_order=True)
                acc = pooled[-1]
                extensibility.append(acc)
                stability.append(conditional[-1])
            trial_e.append(np.mean(extensibility))
            trial_s.append(np.mean(stability))
        acc_e.append(np.mean(trial_e))
        acc_s.append(np.mean(trial_s))
    return np.mean(acc_c), np.mean(acc_e), np.mean(acc_s)

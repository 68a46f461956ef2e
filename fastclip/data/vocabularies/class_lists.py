"""Classes in groups: lists that come with the package, and tables of one's own."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from fastclip.data.checks import check_choice
from fastclip.data.templates import templates as templates_of
from fastclip.data.texts import check_header

PHOTO = ("a photo of a {}.",)
"""The prompt of the paper where it names no other."""

SINGLE = {
    "flowers": ("a photo of a {}, a type of flower.",),
    "pets": ("a photo of a {}, a type of pet.",),
}
"""The prompts of data sets that have one of their own, which is their ensemble, too."""


@dataclass(frozen=True)
class ClassList:
    """Classes in groups, and how to ask for them.

    Attributes
    ----------
    names : tuple of str
        C names as prompts have them.
    groups : tuple of int
        The group of each class, 0 to M - 1.
    group_names : tuple of str
        M names, which no prompt mentions.
    folders : tuple of str
        The folder that holds the images of each class.
    templates : tuple of tuple of str
        For each group the prompts of its classes, with ``{}`` for the name.
    """

    names: tuple[str, ...]
    groups: tuple[int, ...]
    group_names: tuple[str, ...]
    folders: tuple[str, ...]
    templates: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, images: Sequence[str]) -> list[int]:
        """Return the class of each image, that of its folder.

        Parameters
        ----------
        images : sequence of str
            Paths such as ``"val/cat/1.jpg"``, of which only ``cat`` is looked at.

        Raises
        ------
        ValueError
            There is no class with such a folder.
        """
        places = {folder: place for place, folder in enumerate(self.folders)}
        found = []
        for image in images:
            folder = PurePosixPath(image).parent.name
            if folder not in places:
                raise ValueError(f"{image}: is in the folder {folder!r}, which no class has")
            found.append(places[folder])
        return found


def class_list(name: str, *, ensemble: bool = False) -> ClassList:
    """Return the classes of a data set, in the groups of Ren et al.

    Parameters
    ----------
    name : "cifar100", "entity13" or "living17"
        20 superclasses of 5; two levels of BREEDS: 13 of 20 and 17 of 4 classes of ImageNet, whose
        folders are their WordNet ids.
    ensemble : bool, default False
        Use the paper's several prompts (18 for CIFAR, 7 for ImageNet) in place of
        ``"a photo of a {}."``.

    Raises
    ------
    ValueError
        There is no such list.

    Examples
    --------
    >>> from fastclip.data.vocabularies import class_list
    >>> living = class_list("living17")
    >>> len(living), living.names[:2], living.group_names[living.groups[0]]
    (68, ('newt', 'axolotl'), 'salamander')
    """
    lists = _shipped()
    check_choice("name", name, ("cifar100", "entity13", "living17"))
    by_group: dict[str, list[str]] = lists[name]
    members = [(group, member) for group in by_group for member in by_group[group]]
    order = list(by_group)
    if name == "cifar100":
        names = tuple(member for _, member in members)
        folders = tuple(member.replace(" ", "_") for member in names)
    else:
        folders = tuple(member for _, member in members)
        names = tuple(lists["imagenet"][member] for member in folders)
    templates = ensemble_templates(name) if ensemble else PHOTO
    return ClassList(
        names=names,
        groups=tuple(order.index(group) for group, _ in members),
        group_names=tuple(order),
        folders=folders,
        templates=(templates,) * len(order),
    )


def ensemble_templates(name: str) -> tuple[str, ...]:
    """Return the prompts that Ren et al. average for a data set: OpenAI's for it.

    Raises
    ------
    ValueError
        No prompts are known for a data set of this name.

    Examples
    --------
    >>> from fastclip.data.vocabularies.class_lists import ensemble_templates
    >>> ensemble_templates("sun397")
    ('a photo of a {}.', 'a photo of the {}.')
    """
    of_imagenet = ("imagenet", "entity13", "living17")
    lists = {"cifar10": "cifar", "cifar100": "cifar"}
    lists |= {own: own for own in ("cars", "caltech101", "sun397")}
    check_choice("name", name, (*lists, *SINGLE, *of_imagenet))
    if name in SINGLE:
        return SINGLE[name]
    if name in of_imagenet:
        return templates_of("imagenet-simple")
    return tuple(_shipped()[f"{lists[name]}_templates"])


def imagenet_names() -> dict[str, str]:
    """Return the names that OpenAI gave the 1,000 classes of ImageNet, by WordNet id.

    Examples
    --------
    >>> from fastclip.data.vocabularies import imagenet_names
    >>> imagenet_names()["n01440764"]
    'tench'
    """
    return dict(_shipped()["imagenet"])


def read_class_list(path: str | os.PathLike[str], *, templates: Sequence[str] = PHOTO) -> ClassList:
    """Read a table of classes: columns ``name``, ``group`` and, if names differ, ``folder``.

    Parameters
    ----------
    path : path-like
        ``.csv`` or ``.tsv``, UTF-8, with the names of the columns in its first line. Groups are any
        words, in the order in which they come first.
    templates : sequence of str
        Prompts of all classes.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        Another kind of file, a missing column, an empty field, two classes with one folder;
        the message is ``<path>: <reason>``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data.vocabularies import read_class_list
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "classes.csv"
    ...     _ = table.write_text("name,group\\ncat,animals\\noak,trees\\ndog,animals\\n")
    ...     read_class_list(table).groups
    (0, 1, 0)
    """
    path = Path(path)
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    if delimiter is None:
        raise ValueError(f"{path}: not a list of classes, allowed: .csv or .tsv")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = [name.strip() for name in table.fieldnames or ()]
            check_header(columns, delimiter)
            table.fieldnames = columns
            return _from_rows(columns, list(table), tuple(templates))
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _from_rows(
    columns: Iterable[str], rows: list[dict[str, str]], templates: tuple[str, ...]
) -> ClassList:
    present = [column for column in ("name", "group", "folder") if column in columns]
    if present[:2] != ["name", "group"]:
        raise ValueError(f"has the columns {', '.join(columns)}; needs name and group")
    for number, row in enumerate(rows, 1):
        if None in row:
            raise ValueError(f"class {number} has more fields than there are columns")
        for column in present:
            row[column] = (row[column] or "").strip()  # "a " is no other group than "a"
            if not row[column]:
                raise ValueError(f"class {number} has no {column}")
    folders = tuple(row.get("folder", row["name"]) for row in rows)
    twice = [folder for folder in dict.fromkeys(folders) if folders.count(folder) > 1]
    if twice:
        raise ValueError(f"several classes have the folder {twice[0]!r}, needs one for each")
    order = list(dict.fromkeys(row["group"] for row in rows))
    if len(order) < 2:
        raise ValueError(f"has {len(order)} groups, needs two or more")
    return ClassList(
        names=tuple(row["name"] for row in rows),
        groups=tuple(order.index(row["group"]) for row in rows),
        group_names=tuple(order),
        folders=folders,
        templates=(templates,) * len(order),
    )


def _shipped() -> dict[str, Any]:
    return dict(json.loads((files(__package__) / "class-lists.json").read_text("utf-8")))

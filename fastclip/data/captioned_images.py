"""Images with captions: a folder, a table, or tar files as webdataset lays them out."""

import os
from dataclasses import dataclass
from pathlib import Path

from .hard_positives import HardPositiveItem
from .image_sources import ImageSource, files_below, find_images
from .item_images import find_item_images
from .texts import kind_of, read_texts

_TABLES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class CaptionedImages:
    """Captions with their images; made by `find_captioned_images`.

    Attributes
    ----------
    source : ImageSource
        Each different image once.
    captions : tuple of str
    image_of_caption : tuple of int
        The row of each caption's image in ``source``; several captions can have one.
    without_caption : tuple of str
        Names of the images that have no caption, a blank one, or one that is not UTF-8; they are
        in ``source`` alone.
    """

    source: ImageSource
    captions: tuple[str, ...]
    image_of_caption: tuple[int, ...]
    without_caption: tuple[str, ...]


def find_captioned_images(
    source: str | os.PathLike[str],
    *,
    image_column: str = "image",
    caption_column: str = "caption",
    images: str | os.PathLike[str] | None = None,
) -> CaptionedImages:
    """List images and their captions; the kind of source follows from its name.

    ============================  ================================================================
    ``.csv``, ``.tsv``,           a caption a line and the path of its image, relative to the
    ``.jsonl``                    table's folder. An image may occur several times
    ``.tar``, ``.parquet``, or    as of `find_images`: ``KEY.txt`` beside the image, or the field
    a pattern of several          ``caption`` of ``KEY.json``, or the column ``caption`` or ``text``
    folder, or a pattern of       the text of ``NAME.txt`` beside ``NAME.jpg``
    images
    ============================  ================================================================

    Parameters
    ----------
    source : path-like
    image_column, caption_column : str
        Columns of a table.
    images : path-like, optional
        Where the images of a table are, if not at its paths: what `find_images` takes. They are
        found as `find_item_images` finds them.

    Returns
    -------
    CaptionedImages
        At least one caption. An image of a table need not exist: reading it raises then.

    Raises
    ------
    FileNotFoundError
        Nothing is there, or not all of the images are in ``images``.
    ValueError
        ``images`` is given and the source is no table; no image, no caption, or a file that cannot
        be read; the message is ``<source>: <reason>``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data import find_captioned_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "pairs.csv"
    ...     _ = table.write_text("image,caption\\na.jpg,a cat\\nb.jpg,a dog\\na.jpg,one cat\\n")
    ...     found = find_captioned_images(table)
    >>> found.source.names, found.captions, found.image_of_caption
    (('a.jpg', 'b.jpg'), ('a cat', 'a dog', 'one cat'), (0, 1, 0))
    """
    path = Path(source)
    if kind_of(path) in _TABLES and not path.is_dir():
        names = read_texts(path, column=image_column)
        captions = read_texts(path, column=caption_column)
        if images is not None:
            items = [HardPositiveItem(*pair, (), ()) for pair in zip(names, captions, strict=True)]
            found = find_item_images(items, images)
            found.require_all(images)
            return CaptionedImages(found.source, captions, found.image_of_item, ())
        row_of = {name: row for row, name in enumerate(dict.fromkeys(names))}
        files, rows = files_below(path.parent, tuple(row_of)), [row_of[name] for name in names]
        return CaptionedImages(files, captions, tuple(rows), ())
    if images is not None:
        raise ValueError(f"{path}: images are given, which only tables of captions need")
    return _with_captions(path)


def _with_captions(path: Path) -> CaptionedImages:
    source = find_images(path)
    captions, rows, missing = [], [], []
    for row, name in enumerate(source.names):
        text = source.caption(row)
        if text is None or not text.strip():
            missing.append(name)
        else:
            captions.append(text)
            rows.append(row)
    if not captions:
        raise ValueError(f"{path}: no image in it has a caption, allowed: at least one")
    return CaptionedImages(source, tuple(captions), tuple(rows), tuple(missing))

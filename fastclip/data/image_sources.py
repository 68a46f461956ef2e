"""Where images come from: files, a folder, a pattern, a list or a table of files, or tar files."""

import glob
import hashlib
import json
import os
import stat
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import parquet_images
from ._label_map_files import PNG_HEADER, is_png_of_numbers, refuse_label_maps
from .parquet_images import ImageTables
from .patterns import expand, is_pattern, warn_of_missing_parts
from .texts import kind_of, read_texts

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
    }
)

_KINDS = (
    "a folder, a pattern, an image, or a file that ends in .tar (not compressed), .parquet, .csv, "
    ".tsv or .txt"
)


@dataclass(frozen=True)
class ImageSource(ABC):
    """Images in a fixed order, each read when it is wanted; made by `find_images`.

    Parameters
    ----------
    names : sequence of str
        What to call each image.
    sizes : sequence of int
        Bytes of each file; -1 where there is no regular file.
    """

    names: Sequence[str]
    sizes: Sequence[int]

    @property
    def has_captions(self) -> bool:
        """Whether any image comes with a text."""
        return False

    def __len__(self) -> int:
        return len(self.names)

    def digest(self) -> str:
        """Return SHA-256 over names and sizes, in hexadecimal, to compare listings."""
        digest = hashlib.sha256()
        for name, size in zip(self.names, self.sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return the file of one image; raise OSError if it cannot be read, or has changed."""

    def stamp(self, index: int) -> str | None:
        """Return what changes with the file of one image, at no cost; None where nothing does."""
        return None

    def caption(self, index: int) -> str | None:
        """Return the text that comes with one image, None if there is none."""
        return None


@dataclass(frozen=True)
class _Files(ImageSource):
    root: Path

    def read(self, index: int) -> bytes:
        path = self.root / self.names[index]
        if self.sizes[index] < 0 and path.exists():
            raise OSError("not a regular file")  # to open a pipe would wait for ever
        data = path.read_bytes()
        if self.sizes[index] not in (-1, len(data)):
            raise OSError(f"{path}: has changed since it was listed")
        return data

    def stamp(self, index: int) -> str | None:
        return _stamp(self.root / self.names[index])

    def caption(self, index: int) -> str | None:
        beside = (self.root / self.names[index]).with_suffix(".txt")
        if not beside.is_file():
            return None
        return _text(beside.read_bytes())


@dataclass(frozen=True)
class _Part:
    """Some bytes of a tar file."""

    tar: Path
    start: int
    size: int

    def read(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.start)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.tar}: has changed since it was listed")
        return data


@dataclass(frozen=True)
class _Tars(ImageSource):
    images: Sequence[_Part | str]  # or why there is none
    texts: Mapping[int, _Part]
    jsons: Mapping[int, _Part]

    @property
    def has_captions(self) -> bool:
        return bool(self.texts or self.jsons)

    def read(self, index: int) -> bytes:
        image = self.images[index]
        if isinstance(image, str):
            raise OSError(image)
        return image.read()

    def stamp(self, index: int) -> str | None:
        image = self.images[index]
        return None if isinstance(image, str) else _stamp(image.tar)

    def caption(self, index: int) -> str | None:
        if index in self.texts:
            return _text(self.texts[index].read())
        if index in self.jsons:
            with suppress(ValueError, RecursionError):
                entry = json.loads(self.jsons[index].read())
                caption = entry.get("caption") if isinstance(entry, dict) else None
                return caption if isinstance(caption, str) else None
        return None


@dataclass(frozen=True)
class _Tables(ImageSource):
    tables: ImageTables

    @property
    def has_captions(self) -> bool:
        return self.tables.captions is not None

    def read(self, index: int) -> bytes:
        return self.tables.read(index)

    def stamp(self, index: int) -> str | None:
        return self.tables.stamp(index)

    def caption(self, index: int) -> str | None:
        return None if self.tables.captions is None else self.tables.captions[index]


def find_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    column: str | None = None,
) -> ImageSource:
    """List the images of a source; its kind follows from its name.

    ==================  ==========================================================================
    folder              all files in it and below with the suffix of an image, sorted by path;
                        hidden ones are left out and links to folders not followed. Named by the
                        path inside the folder
    pattern             such as ``photos/**/*.jpg``: all files that match, whatever their suffix,
                        sorted; ``**`` goes down any number of folders. Braces as webdataset has
                        them, ``{0000..0117}.tar`` or ``*.{jpg,png}``, stand for several patterns,
                        in their order; what has no wildcard must be there. Named by the path below
                        the part without a wildcard. If the matches are tar files, their images,
                        named ``TAR/KEY``; a tar file that cannot be read, or only in part, is in
                        their list as one more image that cannot be read
    image               a file with the suffix of an image. Named by its own name
    ``.tar``            its members with the suffix of an image, in their order, as webdataset
                        lays them out. Named by the key, the path without the suffix. The caption
                        is ``KEY.txt`` or else the field ``caption`` of ``KEY.json``, if that
                        can be read as UTF-8. A grey or palette PNG beside another image of its
                        sample, as ``1.seg.png`` beside ``1.jpg``, counts as one that cannot be read
    ``.parquet``        a row each, with bytes or, as in data sets of Hugging Face, ``{bytes,
                        path}`` in a column; a pattern of several, or a folder without other images,
                        is read in the order of their names. Named by the path, else by the number
                        of the row, after ``FILE/`` where there are several. The caption is the
                        column ``caption`` or ``text``. At random they are read slowly
    ``.csv``, ``.tsv``  paths in a column, relative to the table's folder. Named as written there
    ``.txt``            a path a line, relative to the list's folder. Named as written there
    ==================  ==========================================================================

    Parameters
    ----------
    source : path-like, or sequence of them
        What to list. Lists and tables can end in ``.gz``, too. Of several sources, which must be of
        files, the images are named by their whole paths; each file counts once.
    column : str, optional
        The column of a table that holds the paths, or of parquet that holds the images; needed if
        there are several.

    Returns
    -------
    ImageSource
        At least one image. A path of a list or table need not exist: it counts as an image that
        cannot be read.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        No image in it, another kind of file, or one that cannot be read; a folder that also holds
        label maps of its images, which a pattern could leave out. The message is
        ``<source>: <reason>``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.jpg", "a.png", "notes.md"):
    ...         _ = (Path(folder) / name).write_bytes(b"...")
    ...     find_images(folder).names
    ('a.png', 'b.jpg')
    """
    if not isinstance(source, (str, os.PathLike)):
        return _find_all(source, column)
    found = list_images(source, column=column)
    if Path(source).is_dir():
        refuse_label_maps(Path(source), found.names)
    return found


def _find_all(sources: Sequence[str | os.PathLike[str]], column: str | None) -> ImageSource:
    if not sources:
        raise ValueError("source: is empty, allowed: at least one path")
    if len(sources) == 1:
        return find_images(sources[0], column=column)
    paths: dict[str, None] = {}  # in order, each once
    for source in sources:
        found = find_images(source, column=column)
        if not isinstance(found, _Files):
            raise ValueError(
                f"{os.fspath(source)}: is one of several sources, allowed: files of images and "
                "folders, patterns, lists and tables of these; others alone"
            )
        paths.update(dict.fromkeys(str(found.root / name) for name in found.names))
    return files_below(Path(), list(paths))


def holds_images(source: str | os.PathLike[str]) -> bool:
    """Whether a source is one of `find_images` by its name, or a folder with an image below.

    Parquet may hold images or features: what its columns are says which.
    """
    path = Path(source)
    inside = _walk(path) if path.is_dir() else []
    tables = [path / name for name in inside if name.endswith(".parquet")]
    if len(tables) < len(inside):
        return True
    if path.suffix == ".parquet" and path.is_file():
        tables = [path]
    if tables:
        return parquet_images.holds_images(tables[0])
    if path.exists():
        return _is_image(path.name) or kind_of(path) in (".tar", ".csv", ".tsv", ".txt")
    return is_pattern(str(path))


def list_images(source: str | os.PathLike[str], *, column: str | None = None) -> ImageSource:
    """As `find_images`; a folder may hold label maps of its images."""
    path = Path(source)
    if not path.exists():
        if not is_pattern(str(path)):
            raise FileNotFoundError(f"{path}: no such file or folder")
        kind = "pattern"
    else:
        kind = "folder" if path.is_dir() else kind_of(path)
    inside = _walk(path) if kind == "folder" else []
    tables = bool(inside) and all(name.endswith(".parquet") for name in inside)
    if column is not None and kind not in (".csv", ".tsv", ".parquet", "pattern") and not tables:
        raise ValueError(
            f"{path}: column is {column!r}, allowed for .csv, .tsv and .parquet files only"
        )
    if tables:
        warn_of_missing_parts(str(path), inside)
        found: ImageSource = _tables(path, inside, column)
    elif kind == "folder":
        found = files_below(path, [name for name in inside if _is_image(name)])
    elif kind == "pattern":
        found = _match(path, column)
    elif kind == ".parquet":
        found = _tables(path.parent, [path.name], column)
    elif kind == ".tar":
        found = _tars([path], [""], alone=True)
    elif kind in (".csv", ".tsv", ".txt"):
        found = files_below(path.parent, read_texts(path, column=column))
    elif kind in SUFFIXES:
        found = files_below(path.parent, [path.name])
    else:
        raise ValueError(f"{path}: not a source of images, allowed: {_KINDS}")
    if not found.names:
        raise ValueError(f"{path}: no images in it, allowed: at least one")
    return found


def _is_image(name: str) -> bool:
    base = os.path.basename(name)
    return os.path.splitext(base)[1].lower() in SUFFIXES and not base.startswith(".")


def _tables(root: Path, names: Sequence[str], column: str | None) -> _Tables:
    prefixes = [f"{name.removesuffix('.parquet')}/" for name in names] if len(names) > 1 else [""]
    tables = ImageTables([root / name for name in names], prefixes, column)
    return _Tables(tuple(tables.names), (0,) * len(tables.names), tables)


def _walk(folder: Path) -> list[str]:
    """Images and parquet files in a folder and below."""

    def fail(error: OSError) -> None:
        raise error

    names = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(parent, folder)
        wanted = [name for name in files if _is_image(name) or name.endswith(".parquet")]
        names += [os.path.normpath(os.path.join(inside, name)) for name in wanted]
    return sorted(names)


def _match(pattern: Path, column: str | None) -> ImageSource:
    fixed = 0
    while not is_pattern(pattern.parts[fixed]) and "{" not in pattern.parts[fixed]:
        fixed += 1  # braces may hold several parts
    root = Path(*pattern.parts[:fixed])
    names: dict[str, None] = {}  # in order, each once
    for part in expand(str(Path(*pattern.parts[fixed:]))):
        if glob.has_magic(part):
            found = glob.glob(part, root_dir=root, recursive=True)
        elif (root / part).exists():
            found = [part]
        else:
            raise FileNotFoundError(f"{root / part}: no such file, one of {pattern}")
        found = sorted(os.path.normpath(name) for name in found if not (root / name).is_dir())
        names.update(dict.fromkeys(found))
    packed = [name for name in names if name.endswith((".tar", ".parquet"))]
    kinds = {os.path.splitext(name)[1] for name in packed}
    if packed and (len(packed) < len(names) or len(kinds) > 1):
        other = next(name for name in names if not name.endswith(os.path.splitext(packed[0])[1]))
        raise ValueError(
            f"{pattern}: matches {packed[0]} and {other}, allowed: only tar files, only parquet "
            "files, or neither"
        )
    if kinds == {".parquet"}:
        return _tables(root, packed, column)
    if column is not None:
        raise ValueError(f"{pattern}: column is {column!r}, allowed for parquet files only")
    if not packed:
        return files_below(root, list(names))
    tars = packed
    return _tars([root / tar for tar in tars], [f"{tar.removesuffix('.tar')}/" for tar in tars])


def _text(data: bytes) -> str | None:
    """A caption; None for bytes that are no UTF-8, of which a guess would be another caption."""
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None


def files_below(root: Path, names: Sequence[str]) -> ImageSource:
    """The images of ``names``, paths relative to ``root``; they need not exist."""
    return _Files(tuple(names), tuple(_size(root / name) for name in names), root)


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _stamp(path: Path) -> str | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


def _tars(paths: Sequence[Path], prefixes: Sequence[str], *, alone: bool = False) -> _Tars:
    names: list[str] = []
    sizes: list[int] = []
    images: list[_Part | str] = []
    captions: dict[str, dict[int, _Part]] = {".txt": {}, ".json": {}}
    for path, prefix in zip(paths, prefixes, strict=True):
        first = len(names)
        beside: dict[tuple[str, str], _Part] = {}
        members, error = _members(path)
        if error and alone:
            raise ValueError(f"{path}: {error}")
        for member in members:
            key, suffix = os.path.splitext(os.path.normpath(member.name))
            part = _Part(path, member.offset_data, member.size)
            if suffix in captions and member.isreg() and not member.issparse():
                beside[key, suffix] = part
            elif _is_image(member.name) and not member.isdir():
                names.append(prefix + key)
                plain = member.isreg() and not member.issparse()
                sizes.append(member.size if plain else -1)
                images.append(part if plain else "a link or special file in the tar file")
        for i in _label_maps(names, images, first):
            sizes[i], images[i] = -1, "looks like the label map of another image of its sample"
        for suffix, found in captions.items():
            for i in range(first, len(names)):
                if (names[i].removeprefix(prefix), suffix) in beside:
                    found[i] = beside[names[i].removeprefix(prefix), suffix]
        if error:
            names.append(path.name)
            sizes.append(-1)
            images.append(error)
    return _Tars(tuple(names), tuple(sizes), tuple(images), captions[".txt"], captions[".json"])


def _label_maps(names: Sequence[str], images: Sequence[_Part | str], first: int) -> list[int]:
    """Images that hold numbers, such as ``1.seg.png``, in a sample with others, as ``1.jpg``."""
    samples: dict[str, list[int]] = {}
    for i in range(first, len(names)):
        folder, base = os.path.split(names[i])
        samples.setdefault(os.path.join(folder, base.split(".")[0]), []).append(i)
    found = []
    for rows in samples.values():
        parts = [(i, images[i]) for i in rows if len(rows) > 1]
        maps = [i for i, part in parts if isinstance(part, _Part) and _holds_numbers(part)]
        found += maps if len(maps) < len(parts) else []
    return found


def _holds_numbers(part: _Part) -> bool:
    with open(part.tar, "rb") as file:
        file.seek(part.start)
        return is_png_of_numbers(file.read(min(part.size, PNG_HEADER)))


def _members(path: Path) -> tuple[list[tarfile.TarInfo], str | None]:
    """What can be read of a tar file, and why not all of it could."""
    members: list[tarfile.TarInfo] = []
    error = None
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0:  # Python before 3.14 would read it for ever
                    raise tarfile.ReadError(f"{member.name} has a negative size")
                members.append(member)
            # tarfile takes a cut or broken header, but for the first, for the end.
            with open(path, "rb") as file:
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) not in (b"", bytes(tarfile.BLOCKSIZE)):
                    raise tarfile.ReadError(f"no member begins at byte {archive.offset}")
    except (OSError, tarfile.TarError, ValueError, OverflowError) as reason:
        error = f"{reason}, allowed: a whole tar file, not compressed"
    size = path.stat().st_size
    return [member for member in members if member.offset_data + member.size <= size], error

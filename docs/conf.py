"""Sphinx's settings; ``make docs`` builds the site into build/docs/html."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# Pages are executed one process beside the other: threads that wait actively would take the cores
# from each other.
os.environ["OMP_WAIT_POLICY"] = "passive"
IPYTHON = HERE.parent / "build" / "ipython"
profile = IPYTHON / "profile_default"
(profile / "startup").mkdir(parents=True, exist_ok=True)
shutil.copy(HERE / "generators" / "kernel.py", profile / "startup")
(profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")
os.environ["IPYTHONDIR"] = str(IPYTHON)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import fastclip  # noqa: E402

project = "fastclip"
author = "The fastclip authors"
copyright = "The fastclip authors, Apache-2.0"
version = release = fastclip.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["figures", "gallery/*.ipynb"]
suppress_warnings = ["config.cache"]  # of functions among sphinx-gallery's settings

# Pages in Markdown and notebooks: code cells are run, and an error in one ends the build.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds of a cell, on a busy machine
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_execution_in_temp = True

# The reference: what docstrings say, with type hints in the signatures.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 70
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "py:obj"

sphinx_gallery_conf = {
    "examples_dirs": "figures",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib", "generators.gallery.show"),
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
}

html_theme = "furo"
html_title = "fastclip"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2f6fde", "color-brand-content": "#255cbb"},
    "dark_css_variables": {"color-brand-primary": "#7fb0ff", "color-brand-content": "#7fb0ff"},
}

linkcheck_ignore = [r"https?://localhost.*"]
linkcheck_timeout = 20
autodoc_default_options = {
    "inherited-members": "object, tuple, dict, Module, Metric, Exception, Protocol, ABC",
    "exclude-members": "count, index",
}
autosummary_generate = False


def _readable(app, what, name, obj, options, signature, returned):  # type: ignore[no-untyped-def]
    """Mend what autodoc cannot know.

    A default that is made anew for each object has no value to show, and of two classes with one
    name, functions take the one that is no metric of torchmetrics.
    """
    if signature:
        signature = signature.replace("<factory>", "...")
        signature = signature.replace(": Openness", ": ~fastclip.metrics.openness.Openness")
    return signature, returned


def _is_from_elsewhere(app, what, name, obj, skip, options):  # type: ignore[no-untyped-def]
    """What scikit-learn adds to estimators is explained in its own documentation."""
    return True if str(getattr(obj, "__module__", "")).startswith("sklearn.") else None


def _begin(app):  # type: ignore[no-untyped-def]
    from generators import pages

    for name in (None, "traitlets"):  # nbclient and open_clip tell about each step
        logging.getLogger(name).setLevel(logging.WARNING)
    pages.write(HERE)


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("builder-inited", _begin, priority=100)  # before the scripts of the gallery
    app.connect("autodoc-process-signature", _readable)
    app.connect("autodoc-skip-member", _is_from_elsewhere)

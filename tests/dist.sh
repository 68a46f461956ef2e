#!/usr/bin/env bash
# Builds what a release uploads: the source distribution and, from it, a wheel for each Python, which
# auditwheel names by the oldest Linux that it runs on. Nothing is uploaded. BIN holds the tools.
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
shift
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH=$bin:$PATH FASTCLIP_CUDA=0

rm -rf dist
"$bin/python" -m build --sdist --outdir dist . > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for python in "$@"; do
  "$bin/uv" build --quiet --wheel --python "$python" --out-dir "$work/$python" dist/*.tar.gz
  "$bin/auditwheel" repair --wheel-dir dist "$work/$python"/*.whl 2> "$work/log" ||
    { cat "$work/log"; exit 1; }
done
"$bin/twine" check --strict dist/*
"$bin/check-wheel-contents" dist/*.whl
ls -l dist

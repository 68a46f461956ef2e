#!/usr/bin/env bash
# Builds the source distribution and, from it, the wheel; installs the wheel into an environment
# that sees the dependencies of PYTHON but not this checkout, and uses it from an empty directory.
set -euo pipefail
python=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Without CUDA, as where there is no nvcc; a build with it is what the other checks use.
FASTCLIP_CUDA=0 "$python" -m build --outdir "$work/dist" . > "$work/build.log" 2>&1 ||
  { cat "$work/build.log"; exit 1; }
ls "$work/dist"

# The source distribution is the repository, so all checks run from it, too.
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
  tar -tzf "$work"/dist/*.tar.gz | sed 's:^[^/]*/::' | sort > "$work/packed"
  missing=$(git ls-files | sort | comm -23 - "$work/packed")
  test -z "$missing" || { printf 'MANIFEST.in leaves out:\n%s\n' "$missing"; exit 1; }
fi
# People download it with every installation: it is not to grow unnoticed.
test "$(stat -c %s "$work"/dist/*.whl)" -le 13500000 || { echo "the wheel has over 13.5 MB"; exit 1; }

"$python" -m venv "$work/venv"
# Packages that .pth files add, an editable install among them, are not taken over this way.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  > "$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
"$work/venv/bin/pip" install --quiet --no-deps --no-index "$work"/dist/*.whl

mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/python" - "$work/venv" <<'PYTHON'
import sys

import fastclip

assert fastclip.__file__.startswith(sys.argv[1]), fastclip.__file__
images = fastclip.data.load_sample("coco-images").features
assert len(fastclip.data.scenes.load_drawings()) > 60
assert len(fastclip.data.vocabularies.wordnet_nouns()) == 117798
assert len(fastclip.data.vocabularies.class_list("living17")) == 68
assert len(fastclip.coder.generate_texts(["zebra"]).prompts().texts) > 10
assert fastclip.topk(images, images, 1).indices.flatten().tolist() == list(range(500))
PYTHON
"$work/venv/bin/fastclip" info > "$work/info.txt"
grep -q 'CUDA.*not built: FASTCLIP_CUDA=0' "$work/info.txt"
"$work/venv/bin/fastclip" demo --captions 1000 --output demo.html > demo.txt
grep -q '0.552' demo.txt
test -s demo.html
"$work/venv/bin/fastclip" openness scenes --scenes 100 --vocabulary 700 -o openness > openness.txt
test -s openness/report.html
rm -r openness openness.txt
test -z "$(ls -A | grep -v '^demo\.')"
echo "The wheel works from an empty directory."

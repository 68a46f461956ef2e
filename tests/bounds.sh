#!/usr/bin/env bash
# Installs the wheel with the lowest versions of the requirements in pyproject.toml, and then with the
# newest, each in an environment of its own, and runs the tests there that meet these packages. A
# check for releases: torch alone is some gigabytes, twice. PYTHON is best the oldest one allowed.
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
python=$2
cd "$(dirname "$0")/.."
export FASTCLIP_CUDA=0 HYPOTHESIS_PROFILE=few OMP_WAIT_POLICY=passive

rm -rf build/bounds
"$bin/uv" build --quiet --wheel --python "$python" --out-dir build/bounds .
wheel=$(ls build/bounds/*.whl)
# What the lowest versions cannot do: DLPack with versions and pyarrow's tensors, the names of numbers that
# torch 2.6 hands over, tracing a bincount of unknown length, forward mode through filters.
declare -A left_out=([highest]="" [lowest-direct]="
  --deselect tests/engine/test_tensor_zoo.py
  --deselect tests/engine/test_extension.py::test_wrong_arguments
  --deselect tests/engine/test_library.py::test_opcheck
  --deselect tests/ops/test_filters.py::test_forward_mode")
# HanTa needs NumPy 2, which the lowest versions of others do not work with.
declare -A more=([highest]="--extra tags" [lowest-direct]="")
for resolution in lowest-direct highest; do
  environment=build/bounds/$resolution
  "$bin/uv" venv --quiet --python "$python" "$environment"
  # From pyproject.toml: what a wheel asks for is not direct.
  "$bin/uv" pip install --quiet --python "$environment" --resolution $resolution --requirement pyproject.toml \
    --extra metrics --extra scenes --extra sklearn --extra test --extra training ${more[$resolution]}
  "$bin/uv" pip install --quiet --python "$environment" --no-deps "$wheel"
  "$bin/uv" pip freeze --python "$environment" > "$environment.txt"
  (
    # Not from here, where fastclip is the checkout.
    cp -r tests pyproject.toml "$environment"
    mkdir -p "$environment/benches" && cp -r benches/results "$environment/benches"
    cd "$environment"
    bin/python -m pytest -n 2 -p no:cacheprovider tests/cli tests/data tests/engine tests/metrics \
      tests/models tests/neighbors tests/ops tests/sweep tests/training tests/ttd \
      tests/test_process.py tests/coder/test_sklearn.py tests/coder/test_in_scikit_learn.py \
      ${left_out[$resolution]}
  )
  echo "$resolution: works"
done

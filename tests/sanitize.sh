#!/usr/bin/env bash
# Runs tests/cpp/isa_test, which tries every instruction set, with AddressSanitizer and UBSan. BIN
# holds cmake and ninja.
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."
folder=build/isa_test/sanitize
"$bin/cmake" -S csrc -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
  -DCMAKE_CXX_COMPILER=g++ -DFASTCLIP_TESTS=ON -DFASTCLIP_SANITIZE=ON -DFASTCLIP_CUDA=0 > /dev/null
"$bin/cmake" --build "$folder" > "$folder/log" || { cat "$folder/log"; exit 1; }
"$folder/isa_test"

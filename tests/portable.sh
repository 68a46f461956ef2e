#!/usr/bin/env bash
# Compiles all of csrc/cpu for systems that are not this one, by zig, which brings clang and their C and
# C++ libraries: macOS on ARM and x86-64, Windows, and Linux with musl. isa_test for musl runs here, the
# one for Windows where there is wine. A check for releases: ten minutes on two cores. BIN holds python
# (with ziglang), cmake and ninja.
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."

"$bin/mypy" --platform win32  # modules and functions that Windows lacks

tools=$PWD/build/portable/tools
mkdir -p "$tools"
for name in c++ ar; do
  printf '#!/bin/sh\nexec "%s/python" -m ziglang %s "$@"\n' "$bin" $name > "$tools/$name"
  chmod +x "$tools/$name"
done

compile() {  # TARGET SYSTEM PROCESSOR CMAKE_TARGET: no program is linked but isa_test
  local folder=build/portable/$1
  "$bin/cmake" -S csrc -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
    -DCMAKE_CXX_COMPILER="$tools/c++" -DCMAKE_CXX_FLAGS="--target=$1" -DCMAKE_AR="$tools/ar" \
    -DCMAKE_SYSTEM_NAME="$2" -DCMAKE_SYSTEM_PROCESSOR="$3" \
    -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY \
    -DFASTCLIP_TESTS=ON -DFASTCLIP_CUDA=0 -DFASTCLIP_WERROR=ON > /dev/null
  "$bin/cmake" --build "$folder" --target "$4" > "$folder/log" || { cat "$folder/log"; exit 1; }
  echo "$1: compiled"
}
compile aarch64-macos Darwin arm64 fastclip_cpu
compile x86_64-macos Darwin x86_64 fastclip_cpu
compile x86_64-windows-gnu Windows x86_64 isa_test
compile x86_64-linux-musl Linux x86_64 isa_test

# Every instruction set of every system gives the same bits.
found=$(build/portable/x86_64-linux-musl/isa_test)
printf 'musl:\n%s\n' "$found"
if command -v wine > /dev/null; then
  # Not in build/: it holds a link to /, which setuptools would follow.
  prefix=$(mktemp -d)
  export WINEDEBUG=-all WINEPREFIX=$prefix
  trap 'wineserver -k 2> /dev/null || true; rm -rf "$prefix" || true' EXIT
  windows=$(wine build/portable/x86_64-windows-gnu/isa_test.exe 2> "$prefix/errors" | tr -d '\r') ||
    { cat "$prefix/errors"; exit 1; }
  printf 'Windows:\n%s\n' "$windows"
  found+=$'\n'$windows
else
  echo "wine is not installed: the kernels are not run for Windows here"
fi
test "$(awk '{ print $2 }' <<< "$found" | sort -u | wc -l)" = 1 || { echo "the checksums differ"; exit 1; }

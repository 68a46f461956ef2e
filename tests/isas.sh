#!/usr/bin/env bash
# Runs isa_test (tests/cpp), which tries every instruction set without Python: here with
# AddressSanitizer and UBSan, and on emulated ARM processors with and without the dot product. Every
# instruction set must give the same bits. BIN holds cmake and ninja.
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."

build() {  # FOLDER CMAKE_ARGUMENT...
  local folder=build/isa_test/$1
  shift
  "$bin/cmake" -S csrc -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
    -DFASTCLIP_TESTS=ON -DFASTCLIP_CUDA=0 "$@" > /dev/null
  "$bin/cmake" --build "$folder" > "$folder/log" || { cat "$folder/log"; exit 1; }
}
build native -DFASTCLIP_SANITIZE=ON
native=$(build/isa_test/native/isa_test)
printf 'here:\n%s\n' "$native"

for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  if ! command -v $tool > /dev/null; then
    echo "$tool is not installed: the ARM kernels are not checked here"
    exit 0
  fi
done
build aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static
dot=$(qemu-aarch64 -cpu max build/isa_test/aarch64/isa_test)
plain=$(qemu-aarch64 -cpu cortex-a53 build/isa_test/aarch64/isa_test)
printf 'ARM:\n%s\nARM without the dot product:\n%s\n' "$dot" "$plain"

names() { echo $(awk '{ print $1 }' <<< "$1"); }
test "$(names "$dot")" = "neon_dot portable" && test "$(names "$plain")" = portable ||
  { echo "other instruction sets were expected on ARM"; exit 1; }
test "$(printf '%s\n' "$native" "$dot" "$plain" | awk '{ print $2 }' | sort -u | wc -l)" = 1 ||
  { echo "the checksums differ"; exit 1; }

#!/usr/bin/env bash
# Makes a release of what is checked out: writes VERSION into fastclip/_version.py, dates the changes in
# CHANGELOG.md, commits both and tags the commit. Nothing is pushed: pushing the tag is what publishes.
set -euo pipefail
version=$1
cd "$(dirname "$0")/.."

fail() { echo "$1" >&2; exit 1; }
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?$ ]] ||
  fail "VERSION: is '$version', allowed: one such as 0.2.0 or 0.2.0rc1: make tag VERSION=0.2.0"
test -z "$(git status --porcelain)" || fail "there are changes that are not committed: commit them first"
test -z "$(git tag --list "v$version")" || fail "VERSION: v$version is tagged already"
changes=$(sed -n '/^## Unreleased$/,/^## [0-9]/p' CHANGELOG.md | grep '^- ') ||
  fail "CHANGELOG.md: nothing is listed under Unreleased"

echo "$changes"
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" fastclip/_version.py
sed -i "s/^## Unreleased$/&\n\n## $version - $(date -u +%Y-%m-%d)/" CHANGELOG.md
git commit --quiet -m "Version $version" fastclip/_version.py CHANGELOG.md
git tag --annotate "v$version" -m "Version $version"
echo "Tagged. To publish it: git push origin HEAD v$version"

#!/bin/sh
# Shows that the tarball depends on the sources only: builds it in two folders of different names, and compares.
# SCHED_BINARY=FILE packs a binary that is there already, twice, and builds nothing.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for folder in one another/deeper; do
    mkdir -p "$work/$folder"
    git -C "$root" archive HEAD | tar -x -C "$work/$folder"
    CARGO_TARGET_DIR=$work/$folder/target \
        SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct) "$work/$folder/packaging/tarball.sh" "$work/$folder/dist"
done
cmp "$work"/one/dist/*.tar.gz "$work"/another/deeper/dist/*.tar.gz
echo "the same bytes"

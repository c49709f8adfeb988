#!/bin/bash
# Makes the fixtures of the tests in DIR (default target/fixtures): the static
# probe program, busybox.tar (which holds it) and debian.tar.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
dir=$(realpath -m "${1:-$here/../target/fixtures}")
mkdir -p "$dir"

if [ ! "$dir/probe" -nt "$here/probe.rs" ]; then
    rustc --edition 2024 -O -C target-feature=+crt-static -C panic=abort -C strip=symbols \
        -o "$dir/probe.part" "$here/probe.rs"
    mv "$dir/probe.part" "$dir/probe"
fi
if [ ! "$dir/busybox.tar" -nt "$here/busybox.sh" ] || [ ! "$dir/busybox.tar" -nt "$dir/probe" ]; then
    "$here/busybox.sh" "$dir/busybox.tar"
fi
"$here/debian.sh" "$dir/debian.tar"

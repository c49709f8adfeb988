#!/bin/bash
# Finds the functions that frequent commands execute and writes the linker script that lays them side by side.
# For x86_64 with the linker that Rust brings; the script serves all linkers that know INSERT.
set -euo pipefail

repo=$(realpath "$(dirname "$(realpath "$0")")/..")
script=$repo/link/order.ld
tmp=$(mktemp -d /var/tmp/minirun-order.XXXXXX)
triple=$(rustc -vV | sed -n 's/^host: //p')
cd "$repo"
command -v jq >/dev/null || { echo "order: needs jq" >&2; exit 1; }
[ -e "${MINIRUN_FIXTURES:=target/fixtures}/busybox.tar" ] || { echo "order: needs make fixtures" >&2; exit 1; }

program=target/order/$triple/release/minirun
engine=(--root "$tmp/store" --state "$tmp/state")
runtime=(oci --root "$tmp/oci")
plain=("$program" "${engine[@]}")
ended() {
    "${plain[@]}" rm -f stays >/dev/null 2>&1 || true
    # The default bridge stays for a next container, and there will be none.
    "${plain[@]}" network prune -f >/dev/null 2>&1 || true
    rm -rf "$tmp"
}
trap ended EXIT

CARGO_PROFILE_RELEASE_STRIP=none cargo rustc --release --bin minirun --target-dir target/order -- \
    -C "link-arg=-Wl,-Map=$tmp/map"
cargo build --release --bench order
order=$(find "target/$triple/release/deps" -name 'order-*' -executable -printf '%T@ %p\n' | sort -n | tail -n1 | cut -d' ' -f2)
marked=$tmp/minirun
"$order" mark "$program" "$marked"

traces=()
# What is not `waited` for goes on behind the commands that follow it.
follow() {
    traces+=("$tmp/$1")
    "$order" trace "$program" "$tmp/$1" "${@:2}" </dev/null >>"$tmp/out"
}

"${plain[@]}" import "$MINIRUN_FIXTURES/busybox.tar" order >/dev/null
follow run "$marked" "${engine[@]}" run --rm --network none order true
follow stays "$marked" "${engine[@]}" run -d --name stays --network none order sleep 1000 &
until "${plain[@]}" exec stays true 2>/dev/null; do sleep 0.1; done

mkdir -p "$tmp/bundle/rootfs" "$tmp/waits"
tar xf "$MINIRUN_FIXTURES/busybox.tar" -C "$tmp/bundle/rootfs"
jq --arg root "$tmp/bundle/rootfs" '.root.path = $root | .process.args = ["true"] | .process.terminal = false
    | .linux.cgroupsPath = "/minirun-order" | .mounts |= map(select(.destination != "/" and .type != "bind"))' \
    "$tmp"/state/*/config.json >"$tmp/bundle/config.json"
jq '.process.args = ["sleep", "1000"]' "$tmp/bundle/config.json" >"$tmp/waits/config.json"

follow oci-run "$marked" "${runtime[@]}" run -b "$tmp/bundle" runs
follow oci-create "$marked" "${runtime[@]}" create -b "$tmp/waits" waits &
until "$program" "${runtime[@]}" state waits 2>/dev/null | grep -q created; do sleep 0.1; done
follow oci-state "$marked" "${runtime[@]}" state waits
follow oci-start "$marked" "${runtime[@]}" start waits
follow oci-exec "$marked" "${runtime[@]}" exec waits true
follow oci-kill "$marked" "${runtime[@]}" kill waits KILL
follow oci-delete "$marked" "${runtime[@]}" delete --force waits
follow exec "$marked" "${engine[@]}" exec stays true
follow ps "$marked" "${engine[@]}" ps
follow stop "$marked" "${engine[@]}" stop -t 0 stays
wait
follow rm "$marked" "${engine[@]}" rm stays
follow bridge "$marked" "${engine[@]}" run --rm order true
follow images "$marked" "${engine[@]}" images
# Those first whose time is measured.
"$order" script "$tmp/map" "$tmp/oci-exec" "$tmp/oci-run" "$tmp/run" "${traces[@]}" >"$tmp/order.ld"
mv "$tmp/order.ld" "$script"
ls -l "$script"

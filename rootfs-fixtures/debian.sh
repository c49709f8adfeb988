#!/bin/bash
# Makes OUT.tar: a minimal real Debian root file system, by debootstrap from the
# package source this machine's apt already uses. Does nothing if OUT.tar is
# newer than this script, so a result made once also serves without a network.
set -euo pipefail

out=$(realpath -m "${1:?usage: debian.sh OUT.tar}")
suite=${SUITE:-bookworm}
here=$(dirname "$(realpath "$0")")

if [ -s "$out" ] && [ "$out" -nt "$0" ]; then
    exit 0
fi

# All of the work happens on a tmpfs in a mount namespace of its own: dpkg syncs
# every file, and whatever debootstrap mounts cannot outlive this script.
if [ -z "${DEBIAN_SH_INSIDE:-}" ]; then
    "$here/deps.sh" debootstrap
    DEBIAN_SH_INSIDE=1 exec unshare --mount --propagation private "$0" "$out"
fi

host=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
find_mirror() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' |
        awk -v host="$host" -v suite="$suite" '
            $2 != "main" { next }
            $1 == suite { print $3; found = 1; exit }
            $1 == host && other == "" { other = $3 }
            END { if (!found && other != "") print other }'
}
# apt tells nothing of sources whose lists it has not fetched yet.
mirror=$(find_mirror)
[ -n "$mirror" ] || { apt-get update -qq >&2 && mirror=$(find_mirror); }
if [ -z "$mirror" ]; then
    echo "debian.sh: apt has no package source for $suite" >&2
    exit 1
fi
eval "$(apt-config shell proxy Acquire::http::Proxy)"
if [ -n "${proxy:-}" ] && [ "$proxy" != DIRECT ]; then
    export http_proxy=$proxy
fi

work=$(mktemp -d)
trap 'umount -R "$work" 2>/dev/null; rmdir "$work"; rm -f "$out.part"' EXIT
mount -t tmpfs -o mode=755 tmpfs "$work"
root=$work/root
if ! debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" 2>&1; then
    tail -n 20 "$work/log" "$root/debootstrap/debootstrap.log" >&2 || true
    exit 1
fi

# What is left of the making: caches, logs, and this machine's own name and resolver.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* \
    "$root"/var/cache/ldconfig/aux-cache "$root"/etc/resolv.conf \
    "$root"/etc/hostname "$root"/etc/machine-id "$root"/tmp/* \
    "$root"/var/lib/dpkg/*-old "$root"/etc/*-
mkdir -p "$(dirname "$out")"
tar -C "$root" --sort=name --numeric-owner --format=gnu --one-file-system \
    --mtime=@1735689600 -cf "$out.part" .
mv "$out.part" "$out"

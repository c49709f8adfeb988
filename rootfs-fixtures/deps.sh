#!/bin/bash
# Installs those of the named Debian packages that are missing. Fast, and needs
# no network, when there are none.
set -euo pipefail

missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; }
# Lists may be stale or absent; the update is only paid for when they are.
install 2>/dev/null || { apt-get update -qq >&2 && install; }

#!/bin/bash
# fetch.sh DIR: the source package of the installed runc, unpacked in DIR/runc,
# and the tests' helper programs, built in DIR/helpers. Does nothing if both are
# there already. The source comes with apt from where this machine's binaries
# come from: its own lists and sources are neither changed nor used up.
set -euo pipefail

dir=$(realpath -m "${1:?usage: fetch.sh DIR}")
here=$(dirname "$(realpath "$0")")
version=$(dpkg-query -W -f '${Version}' runc)

# The machine's sources, asked for source packages instead of binary ones.
source_lists() {
    local parts list
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    mkdir -p "$dir/apt/sources" "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
    rm -f "$dir/apt/sources"/*
    for file in "$list" "$parts"/*.list "$parts"/*.sources; do
        [ -e "$file" ] || continue
        sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb[[:space:]]/deb-src /' \
            "$file" >"$dir/apt/sources/$(basename "$file")"
    done
}

apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$dir/apt/sources" \
        -o Dir::State::lists="$dir/apt/lists" -o Dir::Cache="$dir/apt/cache" \
        -o APT::Sandbox::User=root "$@"
}

fetch_source() {
    echo "fetching the source of runc $version" >&2
    source_lists
    apt update >&2
    mkdir -p "$dir/package"
    (cd "$dir/package" && apt source --download-only "runc=$version" >&2)
    rm -rf "$dir/runc" "$dir/runc.part" "$dir/helpers"
    dpkg-source --no-check --no-copy -x "$dir/package/runc_${version#*:}.dsc" "$dir/runc.part" >/dev/null
    echo "$version" >"$dir/runc.part/.version"
    mv "$dir/runc.part" "$dir/runc"
    rm -rf "$dir/apt" "$dir/package"
}

# In Go's old way with a GOPATH, since Debian packages Go libraries for that.
build_helpers() {
    local program
    echo "building the tests' helper programs" >&2
    "$here/../../rootfs-fixtures/deps.sh" golang-go pkg-config libc6-dev libseccomp-dev \
        golang-github-containerd-console-dev golang-github-cyphar-filepath-securejoin-dev \
        golang-github-opencontainers-specs-dev golang-github-seccomp-libseccomp-golang-dev \
        golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev golang-golang-x-sys-dev
    mkdir -p "$dir/go/src/github.com/opencontainers" "$dir/helpers.part"
    ln -sfn "$dir/runc" "$dir/go/src/github.com/opencontainers/runc"
    for program in recvtty seccompagent; do
        (cd "$dir/go/src/github.com/opencontainers/runc" &&
            GO111MODULE=off GOPATH=$dir/go:/usr/share/gocode GOCACHE=$dir/go/cache GOFLAGS='' \
                go build -tags seccomp -o "$dir/helpers.part/$program" "./contrib/cmd/$program")
    done
    mv "$dir/helpers.part" "$dir/helpers"
    rm -rf "$dir/go"
}

if [ "$(cat "$dir/runc/.version" 2>/dev/null)" != "$version" ]; then
    fetch_source
fi
if [ ! -d "$dir/helpers" ]; then
    build_helpers
fi

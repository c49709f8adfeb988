#!/bin/bash
# prepare.sh DIR: all that the tests need: packages, fixtures, the source package
# of the installed runc in DIR/runc, the tests' helper programs in DIR/helpers,
# their image DIR/busybox.tar. What is there already is not made again. The source
# comes with apt from where this machine's binaries come from; its own lists and
# sources stay as they are.
set -euo pipefail

dir=$(realpath -m "${1:?usage: prepare.sh DIR}")
here=$(dirname "$(realpath "$0")")
repo=$(realpath "$here/../..")
fixtures=${MINIRUN_FIXTURES:-$repo/target/fixtures}
"$repo/rootfs-fixtures/deps.sh" runc bats jq gawk gcc libc6-dev util-linux bsdutils procps dpkg-dev
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
    "$repo/rootfs-fixtures/deps.sh" golang-go pkg-config libc6-dev libseccomp-dev \
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

# The fixture as the tests' own image is: without mount points, without a user 1000.
make_busybox() {
    local root
    root=$(mktemp -d)
    tar -C "$root" -xf "$fixtures/busybox.tar"
    rm -r "${root:?}"/{proc,sys,run,mnt,opt,srv}
    sed -i '/^tim:/d' "$root"/etc/{passwd,group}
    tar -C "$root" -cf "$dir/busybox.tar.part" .
    mv "$dir/busybox.tar.part" "$dir/busybox.tar"
    rm -r "$root"
}

if [ ! -e "$fixtures/debian.tar" ] || [ ! -e "$fixtures/busybox.tar" ]; then
    "$repo/rootfs-fixtures/build.sh" "$fixtures"
fi
if [ "$(cat "$dir/runc/.version" 2>/dev/null)" != "$version" ]; then
    fetch_source
fi
if [ ! -d "$dir/helpers" ]; then
    build_helpers
fi
if [ ! "$dir/busybox.tar" -nt "$fixtures/busybox.tar" ]; then
    make_busybox
fi

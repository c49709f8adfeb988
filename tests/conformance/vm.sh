#!/bin/bash
# Runs the same tests in the emulated machine, which has Debian's kernel and cgroup
# v2 only. RUNTIMES, FILES and MINIRUN as for run.sh; results come back to
# target/conformance/results-v2. The machine is slow: VM_TIMEOUT is 1800 seconds.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
repo=$(realpath "$here/../..")
dir=$repo/target/conformance
fixtures=${MINIRUN_FIXTURES:-$repo/target/fixtures}

# The programs that the tests use, from this machine's packages: those packages, and
# what they depend on, that the emulated machine's root file system has not.
tools() {
    local package
    comm -13 \
        <(tar -xOf "$fixtures/debian.tar" ./var/lib/dpkg/status | sed -n 's/^Package: //p' | sort) \
        <(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts \
            --no-breaks --no-replaces --no-enhances bats jq gawk gcc libc6-dev runc procps |
            grep '^[a-z0-9]' | sort -u) |
        while read -r package; do
            { dpkg -L "$package" 2>/dev/null || true; } | while read -r file; do
                if [ -L "$file" ] || [ -f "$file" ]; then echo "$file"; fi
            done
        done | grep -vE '^/usr/share/(doc|man|locale|info)/' |
        tar -P -cf "$dir/tools.tar.part" -T -
    mv "$dir/tools.tar.part" "$dir/tools.tar"
}

"$here/prepare.sh" "$dir"
"$repo/rootfs-fixtures/deps.sh" qemu-system-x86 e2fsprogs kmod cpio
[ -e "$dir/tools.tar" ] || tools

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
mkdir -p "$payload/repo/tests" "$payload/repo/target/conformance"
cp -r "$here" "$payload/repo/tests/"
cp -r "$repo/docs" "$payload/repo/"
cp -r "$dir"/{runc,helpers,busybox.tar} "$payload/repo/target/conformance/"
cp "$dir/tools.tar" "$payload/"
command="
    ln -s /proc/self/fd /dev/fd
    tar -C / -xPf /payload/tools.tar && cd /payload/repo || exit
    export PREPARED=1 MINIRUN=/payload/minirun TIMEOUT=600 TEST_TIMEOUT=120
    export RUNTIMES='${RUNTIMES:-}' FILES='${FILES:-}'
    tests/conformance/run.sh
    status=\$?
    echo RESULTS; tar -C target/conformance/results -cz . | base64; echo END
    exit \$status"

export VM_PAYLOAD=$payload VM_TIMEOUT=${VM_TIMEOUT:-1800}
export VM_MINIRUN=${MINIRUN:-$repo/target/$(rustc -vV | sed -n 's/^host: //p')/release/minirun}
status=0
"$repo/tests/vm/run.sh" --shell "$command" | sed '/^RESULTS$/,/^END$/d' || status=$?
rm -rf "$dir/results-v2" && mkdir -p "$dir/results-v2"
sed '1,/^RESULTS$/d; /^END$/,$d' "$repo/target/vm/console.log" | base64 -d | tar -C "$dir/results-v2" -xz
exit "$status"

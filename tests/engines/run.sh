#!/bin/bash
# Runs the tests with engines, and sees that the host is afterwards what it was before.
set -euo pipefail

# All that engines and their rooms (mre-PID) could leave on the host.
host() {
    grep -E 'mre-|docker|containerd|/containers/|netns' /proc/self/mountinfo || true
    find /sys/fs/cgroup -mindepth 2 -maxdepth 3 -type d \
        \( -name 'mre-*' -o -name docker -o -name 'libpod*' -o -name default \) | sort
    ls /sys/class/net
    ls -d "${TMPDIR:-/tmp}"/mre-* /run/{docker,containerd,containers,libpod,crun,runc,minirun-oci,netns}/* 2>/dev/null || true
    for process in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -E 'mre-[0-9]' | sed "s|^|${process##*/} |" || true
    done
}

before=$(host)
status=0
cargo test --test engines -- "$@" </dev/null || status=$?
# The room is taken down when the tests' process has ended.
for _ in {1..100}; do
    after=$(host)
    [ "$after" != "$before" ] || exit "$status"
    sleep 0.1
done
echo "the host is not what it was:" >&2
diff <(echo "$before") <(echo "$after") >&2

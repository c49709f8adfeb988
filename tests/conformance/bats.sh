#!/bin/bash
# bats.sh DIR RUNTIME FILE RESULT: one FILE of runc's integration tests below DIR,
# run as pid 1 (and so as reaper) of the namespaces that isolated.sh makes. Writes
# RESULT, in the test anything protocol with the output of what failed.
set -euo pipefail

dir=$1 runtime=$2 file=$3 result=$4

# Everything the tests write is on a tmpfs that ends with this namespace: their
# copy too, since they put file systems and programs beside themselves.
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/runc /mnt/tmp /mnt/home
cp -r "$dir/runc/tests" "$dir/runc/contrib" "$dir/runc/go.mod" /mnt/runc/
for program in recvtty seccompagent; do
    cp "$dir/helpers/$program" "/mnt/runc/contrib/cmd/$program/"
done
# The helpers are started in the background, and a fast runtime is there before them.
sed -i -E '/"\$\{?(RECVTTY|SECCOMP_AGENT)\}?" .*&\) &$/s/$/\n\twait_for_helper/' \
    /mnt/runc/tests/integration/helpers.bash
cat >>/mnt/runc/tests/integration/helpers.bash <<'END_OF_SCRIPT'
function wait_for_helper() {
    local socket=$SECCCOMP_AGENT_SOCKET
    [ "${FUNCNAME[1]}" != setup_recvtty ] || socket=$CONSOLE_SOCKET
    timeout 10 sh -c 'until [ -S "$1" ]; do sleep 0.01; done' - "$socket"
}
END_OF_SCRIPT
cat >/mnt/runc/tests/integration/get-images.sh <<END_OF_SCRIPT
#!/bin/bash
echo "BUSYBOX_IMAGE='$dir/busybox.tar'"
echo "DEBIAN_IMAGE='$MINIRUN_FIXTURES/debian.tar'"
END_OF_SCRIPT

# A runtime may give the host's /dev/null to a container's user; this one is ours.
mknod -m 666 /mnt/null c 1 3
mount --bind /mnt/null /dev/null

# The tests of checkpoints write to /etc/criu; without criu they are skipped.
criu=$(command -v criu || true)
[ -z "$criu" ] || mount --bind /dev/null "$criu"

# The time limit of bats itself starts a child of every test, for which the tests
# that say a bare `wait` would wait. So a test that says nothing for a while loses
# its runtime's processes, fails, and lets the next one begin.
watch() {
    local size last=-1 name
    name=$(basename "$runtime")
    while sleep "${TEST_TIMEOUT:-20}"; do
        size=$(stat -c %s "$result" 2>/dev/null || echo 0)
        [ "$size" != "$last" ] || pkill -KILL "^${name:0:15}" || true
        last=$size
    done
}
watch &

# They want a controlling terminal whose input never ends.
mkfifo /mnt/input
exec 3<>/mnt/input
export RUNC=$runtime TMPDIR=/mnt/tmp HOME=/mnt/home LC_ALL=C.UTF-8
cd /mnt/runc/tests/integration
script -qefc "bats --tap --timing '$file' >'$result' 2>&1" /dev/null <&3 >/dev/null || true

# What a failed test left frozen would not end with this namespace.
find /sys/fs/cgroup -name freezer.state -exec sh -c 'echo THAWED >"$1"' - {} \; 2>/dev/null
find /sys/fs/cgroup -name cgroup.freeze -exec sh -c 'echo 0 >"$1"' - {} \; 2>/dev/null

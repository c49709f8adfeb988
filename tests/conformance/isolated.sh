#!/bin/bash
# isolated.sh SECONDS COMMAND…: runs COMMAND as pid 1 of a pid namespace, with
# mount, network and cgroup namespaces of its own, and kills all of it after
# SECONDS (status 124). COMMAND sees at /sys/fs/cgroup the hierarchies that the
# host has, mounted anew from a cgroup made for it, which is removed afterwards.
# With REALTIME=1 that cgroup has all of the real-time budget, which only one can
# have at a time: others wait for it.
set -uo pipefail

seconds=${1:?usage: isolated.sh SECONDS COMMAND…}
shift
name=minirun-conformance-$$
cgroups=()

# "HIERARCHY MOUNTPOINT OUR-PATH" for every mounted hierarchy; version 2 has no name.
hierarchies() {
    local mountpoint fstype options key path
    while read -r mountpoint fstype options; do
        if [ "$fstype" = cgroup2 ]; then
            echo "- $mountpoint /"
            continue
        fi
        while IFS=: read -r _ key path; do
            if [ -n "$key" ] && [[ ",$options," == *",$key,"* ]]; then
                echo "$key $mountpoint $path"
            fi
        done </proc/self/cgroup
    done < <(sed -nE 's/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ ([^ ]+) .* - (cgroup2?) [^ ]+ ([^ ]+)$/\1 \2 \3/p' \
        /proc/self/mountinfo)
}

# The controllers of a version 2 cgroup, for the cgroups in it.
hand_on() {
    sed 's/[^ ]*/+&/g' "$1/cgroup.controllers" >"$1/cgroup.subtree_control"
}

make_cgroups() {
    local key mountpoint path parent file
    while read -r key mountpoint path; do
        parent=$mountpoint${path%/}
        if [ "$key" = - ] && [ "$mountpoint" = /sys/fs/cgroup ]; then
            unified=$parent/$name
            hand_on "$parent"
        fi
        mkdir "$parent/$name" || return
        cgroups+=("$parent/$name")
        if [ "$key" = cpuset ]; then
            for file in cpuset.cpus cpuset.mems; do
                cat "$parent/$file" >"$parent/$name/$file"
            done
        elif [ "$key" = cpu ] && [ "${REALTIME:-}" = 1 ] && [ -e "$parent/cpu.rt_runtime_us" ]; then
            cat "$parent/cpu.rt_runtime_us" >"$parent/$name/cpu.rt_runtime_us"
        fi
    done < <(hierarchies)
}

# A frozen process does not die.
thaw() {
    local file
    while read -r file; do
        case $file in
        */freezer.state) echo THAWED >"$file" ;;
        */cgroup.freeze) echo 0 >"$file" ;;
        esac
    done < <(find "$1" -name freezer.state -o -name cgroup.freeze 2>/dev/null) 2>/dev/null
}

remove_cgroups() {
    local cgroup inner
    [ ${#cgroups[@]} -gt 0 ] || return 0
    for _ in {1..100}; do
        for cgroup in "${cgroups[@]}"; do
            thaw "$cgroup"
        done
        while read -r inner; do
            rmdir "$inner" 2>/dev/null
        done < <(find "${cgroups[@]}" -depth -type d 2>/dev/null)
        [ -n "$(find "${cgroups[@]}" -maxdepth 0 2>/dev/null)" ] || return 0
        sleep 0.1
    done
    echo "isolated: these are left: ${cgroups[*]}" >&2
}

# Runs in the new cgroup namespace. Only a version 2 cgroup without processes can
# hand controllers on, so ours move further down; then come the other namespaces.
spread() {
    if [ -n "$1" ]; then
        mkdir "$1/init" && echo 0 >"$1/init/cgroup.procs" && hand_on "$1" || exit 125
    fi
    shift
    exec unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc \
        bash -c 'enter $1 && shift && exec "$@"; exit 125' - "$@"
}

# Runs inside the new namespaces, as pid 1; propagation to the host is cut.
enter() {
    local key
    umount --recursive --lazy /sys/fs/cgroup
    if [ "$*" = - ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for key in "$@"; do
        case $key in
        -) mount -t cgroup2 -o X-mount.mkdir cgroup2 /sys/fs/cgroup/unified ;;
        name=*) mount -t cgroup -o "X-mount.mkdir,none,$key" cgroup "/sys/fs/cgroup/${key#name=}" ;;
        *) mount -t cgroup -o "X-mount.mkdir,$key" cgroup "/sys/fs/cgroup/$key" ;;
        esac || return
    done
}

clean() {
    # Namespaces end with their pid 1. A shell tells who of its jobs was killed.
    { disown -a && kill -KILL "${inside:-}" "${alarm:-}"; } 2>/dev/null
    remove_cgroups
}

if [ "${REALTIME:-}" = 1 ]; then
    exec 9>/run/minirun-conformance.lock
    flock 9
fi
trap clean EXIT
trap 'exit 143' TERM INT HUP
make_cgroups || exit 125
mapfile -t keys < <(hierarchies | cut -d ' ' -f 1 | sort -u)
(
    for cgroup in "${cgroups[@]}"; do
        echo "$BASHPID" >"$cgroup/cgroup.procs" || exit 125
    done
    export -f spread enter hand_on
    exec 9>&- setpriv --pdeathsig KILL unshare --cgroup bash -c 'spread "$@"' - \
        "${unified:-}" "${keys[*]}" "$@"
) &
inside=$!
setpriv --pdeathsig KILL sleep "$seconds" 9>&- &
alarm=$!
wait -n -p ended "$inside" "$alarm"
status=$?
[ "$ended" = "$inside" ] || status=124
exit "$status"

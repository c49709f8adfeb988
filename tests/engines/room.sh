#!/bin/bash
# A room for engines, with namespaces and cgroups of its own: mounts, processes, network
# interfaces and the engines' well-known places (/run, /var/lib) are the room's.
#
# room.sh open DIR         opens one that lasts until standard input ends, which the
#                          death of whoever holds its other end brings about. Then
#                          everything inside is killed and DIR removed. Prints the pid
#                          of the room's first process when it is ready.
# room.sh in DIR PID CMD…  runs a command in the room.
set -euo pipefail

groups() { awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo; }

open() {
    trap leave EXIT
    trap 'exit 1' INT TERM HUP
    grep -E ' - cgroup2? ' /proc/self/mountinfo >"$dir/hierarchies"
    local group
    for group in $(groups); do
        mkdir "$group/$name"
        [ ! -e "$group/cpuset.cpus" ] || {
            cat "$group/cpuset.cpus" >"$group/$name/cpuset.cpus"
            cat "$group/cpuset.mems" >"$group/$name/cpuset.mems"
        }
    done
    (join && exec unshare --mount --propagation private --pid --net --ipc --uts --cgroup --fork --kill-child=KILL \
        "$BASH" "$script" furnish "$dir") </dev/null >"$dir/room.log" 2>&1 &
    room=$!
    until [ -e "$dir/ready" ]; do
        kill -0 "$room" 2>/dev/null || { cat "$dir/room.log" >&2; exit 1; }
        sleep 0.01
    done
    echo "$(<"/proc/$room/task/$room/children")"
    cat <&0 >/dev/null &
    wait $!
}

join() {
    local group
    for group in $(groups); do
        echo "$BASHPID" >"$group/$name/cgroup.procs"
    done
}

furnish() {
    mount -t proc none /proc
    umount --recursive --lazy /sys
    mount -t sysfs none /sys
    mount -t tmpfs none /sys/fs/cgroup
    local fields type options line place
    while read -r line; do
        read -r -a fields <<<"$line"
        place=${fields[4]}
        read -r -a fields <<<"${line##* - }"
        type=${fields[0]} options=${fields[2]#r[wo]}
        mkdir -p "$place"
        case $type,$options in
            cgroup,*name=*) mount -t cgroup -o "none$options" none "$place" ;;
            *) mount -t "$type" ${options:+-o "${options#,}"} none "$place" ;;
        esac
    done <"$dir/hierarchies"
    for place in /run /dev/shm /var/lib/{docker,containerd,containers,cni} /etc/cni/net.d; do
        [ ! -d "$place" ] || mount -t tmpfs -o mode=755 none "$place"
    done
    chmod 1777 /dev/shm
    mkdir -p /run/lock
    ip link set lo up
    touch "$dir/ready"
    exec tini -s -- sleep infinity
}

leave() {
    trap - EXIT
    # The room's first process takes all others with it, and the last of them the mounts.
    [ -z "$room" ] || { kill -KILL "$room" && wait "$room"; } 2>/dev/null || true
    local group
    for group in $(groups); do
        remove_group "$group/$name"
    done
    rm -rf --one-file-system "$dir"
}

remove_group() {
    local tries
    for ((tries = 0; tries < 500; tries++)); do
        [ -d "$1" ] || return 0
        find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    done
    echo "left: $1" >&2
}

script=$(realpath "$0") do=$1 dir=$2 name=${2##*/} room=''
shift 2
case $do in
    open) open ;;
    furnish) furnish ;;
    in) join && exec nsenter --target "$1" --all -- "${@:2}" ;;
esac

#!/bin/bash
# Pid 1 of the emulated machine: mounts what a booted Linux has, runs the tests
# (or the command) of /payload, tells the status on the console, powers off.
set -u

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
hostname vm
echo vm >/etc/hostname
echo '127.0.0.1 localhost' >/etc/hosts
echo 'nameserver 192.0.2.1' >/etc/resolv.conf
ip link set lo up

export MINIRUN_BIN=/payload/minirun MINIRUN_FIXTURES=/fixtures
cd /root
read -r booted _ </proc/uptime
echo "vm: linux $(uname -r) up after $booted s, controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
# A session of its own, so that the tests never see the console as their terminal.
if [ -e /payload/command ]; then
    setsid -w bash /payload/command </dev/null
    status=$?
else
    status=0
    for tests in unit integration; do
        [ -e "/payload/$tests" ] || continue
        if [ "$tests" = unit ]; then list=unit-filters; else list=filters; fi
        mapfile -t filters <"/payload/$list"
        # Those that are ignored elsewhere are meant for this machine.
        setsid -w "/payload/$tests" --color never --include-ignored "${filters[@]}" </dev/null || status=$?
    done
fi
read -r now _ </proc/uptime
echo "vm: $(awk "BEGIN { print $now - $booted }") s of testing"
echo "VM-STATUS $status"
poweroff -f

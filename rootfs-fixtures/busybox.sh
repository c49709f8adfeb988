#!/bin/bash
# Makes OUT.tar: a small root file system of Debian's static busybox with all of
# its applets, the users root and tim, and the probe at /bin/probe if PROBE (or
# a file `probe` beside OUT.tar) is there. The same inputs give the same bytes.
set -euo pipefail

out=$(realpath -m "${1:?usage: busybox.sh OUT.tar}")
here=$(dirname "$(realpath "$0")")
probe=${PROBE:-$(dirname "$out")/probe}
"$here/deps.sh" busybox-static

root=$(mktemp -d)
trap 'rm -rf "$root" "$out.part"' EXIT
chmod 755 "$root"
cd "$root"

mkdir -p bin sbin usr/bin usr/sbin usr/lib lib lib64 etc dev proc sys run mnt opt srv \
    root home/tim tmp var/log var/run var/spool var/tmp
chmod 700 root
chmod 1777 tmp var/tmp
chown 1000:1000 home/tim

busybox=$(dpkg -L busybox-static | grep -m1 '/busybox$')
cp "$busybox" bin/busybox
while read -r applet; do
    [ -e "$applet" ] || ln -s /bin/busybox "$applet"
done < <(bin/busybox --list-full)
if [ -e "$probe" ]; then
    install -m 755 "$probe" bin/probe
fi

cat >etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
tim:x:1000:1000:Tim:/home/tim:/bin/sh
END
cat >etc/group <<'END'
root:x:0:
daemon:x:1:
tty:x:5:
nogroup:x:65534:
tim:x:1000:
extra:x:2000:tim
END
cat >etc/os-release <<'END'
ID=busybox
NAME=BusyBox
PRETTY_NAME="BusyBox test root"
END
echo 'root::0:0:99999:7:::' >etc/shadow
chmod 640 etc/shadow

mkdir -p "$(dirname "$out")"
tar --sort=name --numeric-owner --mtime=@1735689600 --format=gnu -cf "$out.part" .
mv "$out.part" "$out"

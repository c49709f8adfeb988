#!/bin/bash
# Shows a container's life, from a root file system to a committed image, in a store
# of its own: demo.sh MINIRUN DIR. Each command is printed with what it answers.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
binary=$(realpath "${1:?usage: demo.sh MINIRUN DIR}")
dir=$(realpath -m "${2:?usage: demo.sh MINIRUN DIR}")
debian=${MINIRUN_FIXTURES:-$dir/..}/debian.tar
export MINIRUN_ROOT=$dir/root MINIRUN_STATE=$dir/state

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
minirun() {
    local word line='$ minirun'
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]_./:=-]+$ ]] || word="'$word'"
        line+=" $word"
    done
    echo "$line"
    "$binary" "$@" </dev/null
}
refused() {
    if minirun "$@"; then
        echo "demo: that should have been refused" >&2
        exit 1
    fi
    echo "(refused, as it should be)"
}

[ "$(id -u)" = 0 ] || { echo "demo: run this as root" >&2; exit 1; }
"$here/debian.sh" "$debian"
rm -rf "$dir"
mkdir -p "$dir/shared"
trap '"$binary" ps -aq 2>/dev/null | xargs -r "$binary" rm -f >/dev/null 2>&1; rm -rf "$dir"' EXIT

say "A root file system becomes an image"
minirun import "$debian" debian
minirun images

say "A container of it, with its own processes and host name, and no network"
minirun run --rm --network none --hostname demo debian \
    sh -c 'hostname; cat /etc/debian_version; id; ls /proc | grep -c "^[0-9]"'

say "A volume it can read, and cannot write"
echo 'hello from the host' >"$dir/shared/greeting"
minirun run --rm --network none -v "$dir/shared:/shared:ro" debian cat /shared/greeting
refused run --rm --network none -v "$dir/shared:/shared:ro" debian touch /shared/mine

say "A change in a container, made an image by commit"
minirun run --name writer --network none debian sh -c 'echo changed inside >/root/note'
minirun commit writer debian-note
minirun run --rm --network none debian-note cat /root/note

say "The image it came from does not have it"
refused run --rm --network none debian cat /root/note

say "What there is now"
minirun images
minirun ps -a

say "And all of it removed"
minirun rm writer
minirun rmi debian-note debian
minirun images
minirun ps -a

# Sourced by run.sh: finds the engines that are installed, gives each a store of its
# own in $tmp, with state in $volatile and the image `bench`, and takes all of it down again.
#
# Sets: floor, minirun (copies), lower (the unpacked image), engines, runtimes, have_minirun, cmd_ENGINE.

engines=() runtimes=() have_minirun='' dockerd_pid=''

set_up() {
    [ -e "$fixtures/busybox.tar" ] && [ -e "$fixtures/debian.tar" ] ||
        "$repo/rootfs-fixtures/build.sh" "$fixtures"
    floor=${FLOOR:-$(built floor)}
    floor=$(installed "$floor" floor)
    [ ! -x "$minirun" ] || minirun=$(installed "$minirun" minirun)
    lower=$tmp/bundle/rootfs
    mkdir -p "$lower" "$tmp/floor"
    tar -C "$lower" -xf "$fixtures/busybox.tar"
    : >"$log"

    groups_before=$(engine_groups)
    [ ! -x "$minirun" ] || set_up_minirun
    ! command -v dockerd >/dev/null || set_up_docker
    ! command -v podman >/dev/null || set_up_podman
    set_up_runtimes
    local e
    for e in "${engines[@]}"; do
        local -n command=cmd_$e
        "${command[@]}" import "$fixtures/busybox.tar" bench >>"$log" 2>&1 ||
            { echo "bench: $e cannot import the image:" >&2; tail -n 5 "$log" >&2; exit 1; }
    done
}

# As users have a program: copied. One that the linker has just written is in memory page by page, and costs each
# process that maps it a third of a millisecond more.
installed() {
    install -D -m 755 "$1" "$tmp/bin/$2" && echo "$tmp/bin/$2"
}

built() {
    (cd "$repo" && cargo bench --quiet --no-run --bench "$1" --message-format=json) |
        sed -n "s/.*\"executable\":\"\([^\"]*$1-[^\"]*\)\".*/\1/p" | tail -n 1
}

set_up_minirun() {
    have_minirun=1
    engines+=(minirun)
    cmd_minirun=("$minirun" --root "$tmp/minirun" --state "$volatile/minirun")
}

set_up_docker() {
    local client=/usr/bin/docker i
    [ -x "$client" ] || client=$(command -v docker)
    # shellcheck disable=SC2034
    cmd_docker=("$client" -H "unix://$tmp/docker.sock")
    dockerd --data-root "$tmp/docker" --exec-root "$volatile/docker" -H "unix://$tmp/docker.sock" \
        --pidfile "$tmp/dockerd.pid" --bridge=none --iptables=false >"$tmp/dockerd.log" 2>&1 &
    dockerd_pid=$!
    for ((i = 0; i < 150; i++)); do
        if "${cmd_docker[@]}" version >/dev/null 2>&1; then
            engines+=(docker)
            return
        fi
        sleep 0.2
    done
    echo "bench: dockerd does not answer, left out:" >&2
    tail -n 3 "$tmp/dockerd.log" >&2
}

set_up_podman() {
    # runc, because crun refuses a hybrid cgroup hierarchy. podman's own default
    # limits are higher than what root may set everywhere.
    cat >"$tmp/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
    # shellcheck disable=SC2034
    cmd_podman=(env "CONTAINERS_CONF=$tmp/containers.conf" podman --root "$tmp/podman"
        --runroot "$volatile/podman" --tmpdir "$volatile/podman-tmp" --storage-driver overlay)
    engines+=(podman)
}

set_up_runtimes() {
    command -v runc >/dev/null || return 0
    (cd "$tmp/bundle" && runc spec)
    sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"true"/' "$tmp/bundle/config.json"
    runtimes+=(runc)
    ! command -v crun >/dev/null || runtimes+=(crun)
    [ -z "$have_minirun" ] || ln -s "$minirun" "$tmp/minirun-oci"
}

# The first word says what is done with the command (floor time, floor peak, or just
# env), the second which runtime it is, the rest is its command line.
with_runtime() {
    local how=$1 name=$2 program=$2
    shift 2
    [ "$name" != minirun ] || program=$tmp/minirun-oci
    # shellcheck disable=SC2086
    if [ "$name" = crun ]; then
        # It takes a hybrid hierarchy for none it knows, unless it looks like v1.
        unshare --mount --propagation private sh -c '
            [ ! -d /sys/fs/cgroup/unified ] || mount -t tmpfs none /sys/fs/cgroup/unified
            exec "$@"' - $how crun --root "$volatile/crun" "$@" 2>>"$log"
    else
        $how "$program" --root "$volatile/oci-$name" "$@" 2>>"$log"
    fi || echo "failed: $name $*" >>"$log"
}

# A bundle with what Docker asks for by default, as minirun composes it.
docker_bundle() {
    local id
    command -v jq >/dev/null || return 1
    id=$("${cmd_minirun[@]}" run -d --network none bench sleep 1000)
    jq --arg root "$tmp/bundle/rootfs" --slurpfile ours "$volatile/minirun/$id/config.json" '
        .process.capabilities = $ours[0].process.capabilities | .process.noNewPrivileges = false
        | del(.process.rlimits)
        | .root = {path: $root, readonly: false} | .linux.seccomp = $ours[0].linux.seccomp
        | .linux.maskedPaths = $ours[0].linux.maskedPaths | .linux.readonlyPaths = $ours[0].linux.readonlyPaths
        | .linux.resources = $ours[0].linux.resources | .linux.namespaces = $ours[0].linux.namespaces
        | .process.args = ["true"]' "$tmp/bundle/config.json" >"$tmp/docker.json"
    mkdir "$tmp/docker-bundle" "$tmp/docker-bundle-stays"
    cp "$tmp/docker.json" "$tmp/docker-bundle/config.json"
    jq '.process.args = ["sleep", "1000"]' "$tmp/docker.json" >"$tmp/docker-bundle-stays/config.json"
    "${cmd_minirun[@]}" rm -f "$id" >>"$log"
}

# One timed run of an engine or runtime.
start_once() {
    case $1 in
        runc | crun) with_runtime "$floor time" "$1" run -b "$tmp/bundle" bench ;;
        *)
            local -n command=cmd_$1
            time_of "${command[@]}" run --rm --network none bench true
            ;;
    esac
}

# The cgroups that docker and podman leave behind, empty, when they are gone.
engine_groups() {
    find /sys/fs/cgroup -maxdepth 2 -type d \( -name docker -o -name libpod_parent \) | sort
}

tear_down() {
    local e names
    trap - EXIT
    for e in "${engines[@]}"; do
        local -n command=cmd_$e
        names=$("${command[@]}" ps -aq 2>/dev/null || true)
        # shellcheck disable=SC2086
        [ -z "$names" ] || "${command[@]}" rm -f $names >/dev/null 2>&1 || true
    done
    # The bridge of a store outlives its containers.
    for e in minirun many source; do
        [ ! -d "$tmp/$e/layers" ] || "$minirun" --root "$tmp/$e" --state "$volatile/$e" network prune -f >/dev/null 2>&1 || true
    done
    [ ! -e "$tmp/registry.pid" ] || kill "$(<"$tmp/registry.pid")" 2>/dev/null || true
    if [ -n "$dockerd_pid" ]; then
        kill "$dockerd_pid" 2>/dev/null || true
        wait "$dockerd_pid" 2>/dev/null || true
    fi
    comm -13 <(echo "${groups_before:-}") <(engine_groups) |
        while read -r e; do find "$e" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
    awk -v t="$tmp/" -v v="$volatile/" 'index($2, t) == 1 || index($2, v) == 1 { print $2 }' /proc/self/mounts | sort -r |
        while read -r mount; do umount "$mount" 2>/dev/null || true; done
    rm -rf --one-file-system "$tmp" "$volatile"
}

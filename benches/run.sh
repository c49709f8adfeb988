#!/bin/bash
# Measures minirun side by side with docker, podman, runc and crun (those that are
# installed) and with the bare system calls of floor.rs; prints a table with the
# ratios and says which targets were met. Everything it makes is in one temporary
# directory, removed at the end, where a dockerd of its own runs too; each engine's
# volatile state is on a tmpfs, as /run is on every distribution.
#
# What everybody is compared with is `floor` as a whole program, timed as the others
# are: from before it is executed until it has been waited for. How long its system
# calls take without that is in the table too, as `calls alone`.
#
#   benches/run.sh [startup] [runtimes] [parallel] [memory] [images] [archives] [commit] [many] [registry] [network] [build]
#   default: all
#
# Environment: ROUNDS (31) of the start-up test and of those with a bundle, STARTS (100) of the parallel one,
# TURNS (3) of that with a registry,
# MINIRUN, FLOOR and MANY name the binaries, BENCH_DIR where the temporary directory goes,
# BENCH_STATE (/dev/shm) where the engines' volatile state does.
# Best run when little was deleted on that file system in the last five minutes.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
repo=$(realpath "$here/..")
fixtures=${MINIRUN_FIXTURES:-$repo/target/fixtures}
triple=$(rustc -vV | sed -n 's/^host: //p')
minirun=${MINIRUN:-$repo/target/$triple/release/minirun}
rounds=${ROUNDS:-31}
starts=${STARTS:-100}
turns=${TURNS:-3}
few=5

tmp=$(mktemp -d "${BENCH_DIR:-/var/tmp}/minirun-bench.XXXXXX")
volatile=$(mktemp -d "${BENCH_STATE:-/dev/shm}/minirun-bench.XXXXXX")
log=$tmp/log
source "$here/engines.sh"
source "$here/network.sh"
source "$here/build.sh"

# ---- figures: microseconds unless said otherwise, "-" where there is none

declare -A figure
median() { sort -n | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "-" }'; }
time_of() { "$floor" time "$@" 2>>"$log" || echo failed >>"$log"; }
# Before what is timed, or it pays for what was written or deleted before it.
settle() { sync -f "$tmp"; }
ms() { [ "$1" = - ] && echo - || awk -v us="$1" 'BEGIN { printf us < 99500 ? "%.1f ms" : "%.0f ms", us / 1000 }'; }
ratio() {
    if [ "$1" = - ] || [ "$2" = - ]; then echo -; else awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; fi
}
row() { printf '  %-14s %12s %12s\n' "$@"; }

# A target on minirun's figure: `goal TEXT VALUE LIMIT`.
goals=()
goal() {
    local verdict=missed
    [ "$2" != - ] || { goals+=("no figure  $1"); return 0; }
    if awk -v a="$2" -v b="$3" 'BEGIN { exit !(a <= b) }'; then verdict=met; fi
    goals+=("$(printf '%-9s  %s: %s (limit %s)' "$verdict" "$1" "$2" "$3")")
}

startup() {
    local i e
    for ((i = 0; i < rounds; i++)); do
        "$floor" "$lower" "$tmp/floor" 1 >>"$tmp/startup.calls"
        time_of "$floor" "$lower" "$tmp/floor" 1 >>"$tmp/startup.floor"
        for e in "${engines[@]}" "${runtimes[@]}"; do
            # Each is warm from a start right before, as the floor is.
            start_once "$e" >/dev/null
            start_once "$e" >>"$tmp/startup.$e"
        done
    done
    echo; echo "run --rm --network none IMAGE true, median of $rounds rounds"
    row '' time '/ floor'
    figure[startup.floor]=$(median <"$tmp/startup.floor")
    i=$(median <"$tmp/startup.calls")
    row 'calls alone' "$(ms "$i")" "$(ratio "$i" "${figure[startup.floor]}")"
    for e in floor "${engines[@]}" "${runtimes[@]}"; do
        figure[startup.$e]=$(median <"$tmp/startup.$e")
        row "$e" "$(ms "${figure[startup.$e]}")" "$(ratio "${figure[startup.$e]}" "${figure[startup.floor]}")"
    done
    if [ "$have_minirun" ]; then
        goal 'start-up / floor' "$(ratio "${figure[startup.minirun]}" "${figure[startup.floor]}")" 2
        goal 'start-up / docker' "$(ratio "${figure[startup.minirun]}" "${figure[startup.docker]:--}")" 0.033
    fi
}

# One timed run of the bundle, or exec in the one that stays; `pid` is the first process of minirun's.
bundle_once() {
    case $1-$2 in
        floor-run) time_of "$floor" bundle "$lower" "$tmp/floor" ;;
        floor-exec) time_of "$floor" exec "$pid" ;;
        *-run) with_runtime "$floor time" "$1" run -b "$tmp/docker-bundle" "runs-$1" ;;
        *-exec) with_runtime "$floor time" "$1" exec "stays-$1" true ;;
    esac
}

# The OCI command lines on one bundle: run to the end, exec, and the memory of create.
runtimes() {
    local e i each=() bare what pid
    [ "$have_minirun" ] && docker_bundle || { echo; echo "runtimes: needs minirun, runc and jq"; return 0; }
    each=(minirun "${runtimes[@]}")
    for e in "${each[@]}"; do
        with_runtime env "$e" run -d -b "$tmp/docker-bundle-stays" "stays-$e" </dev/null >/dev/null
    done
    pid=$("$tmp/minirun-oci" --root "$volatile/oci-minirun" state stays-minirun | jq .pid)
    for ((i = 0; i < rounds; i++)); do
        # Each is warm from the same right before.
        for e in floor "${each[@]}"; do
            bundle_once "$e" run >/dev/null
            bundle_once "$e" run >>"$tmp/bundle.run.$e"
            bundle_once "$e" exec >/dev/null
            bundle_once "$e" exec >>"$tmp/bundle.exec.$e"
        done
    done
    for what in run exec; do
        echo; echo "$what with Docker's default configuration, seccomp included, median of $rounds rounds"
        row '' time '/ minirun'
        figure[$what.minirun]=$(median <"$tmp/bundle.$what.minirun")
        bare=$(median <"$tmp/bundle.$what.floor")
        row floor "$(ms "$bare")" "$(ratio "$bare" "${figure[$what.minirun]}")"
        for e in "${each[@]}"; do
            figure[$what.$e]=$(median <"$tmp/bundle.$what.$e")
            row "$e" "$(ms "${figure[$what.$e]}")" "$(ratio "${figure[$what.$e]}" "${figure[$what.minirun]}")"
        done
        goal "bundle $what / crun" "$(ratio "${figure[$what.minirun]}" "${figure[$what.crun]:--}")" 1
        goal "bundle $what / runc" "$(ratio "${figure[$what.minirun]}" "${figure[$what.runc]:--}")" 0.2
        goal "bundle $what / floor" "$(ratio "${figure[$what.minirun]}" "$bare")" 1.5
    done
    echo; echo "peak memory of create"
    for e in "${each[@]}"; do
        i=$(with_runtime "$floor peak" "$e" create -b "$tmp/docker-bundle" "made-$e")
        row "$e" "$i kB" ''
        [ "$e" != minirun ] || goal 'memory of create, kB' "$i" 5120
        with_runtime env "$e" delete -f "made-$e"
        with_runtime env "$e" delete -f "stays-$e"
    done
}

elapsed() {
    local from=$EPOCHREALTIME
    "$@" >/dev/null 2>>"$log" || echo "failed: $*" >>"$log"
    awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1e6 }'
}

parallel() {
    local e one eight
    many_starts() { seq "$starts" | xargs -P"$1" -I{} "${@:2}" run --rm --network none bench true {}; }
    # What this machine can do at all: the bare calls in the same two ways.
    many_floors() { seq "$starts" | xargs -P"$1" -I{} "$floor" "$lower" "$tmp/floor" 1; }
    echo; echo "$starts starts in sequence and 8 at a time"
    printf '  %-14s %12s %12s %12s\n' '' sequence '8 at a time' ratio
    one=$(elapsed many_floors 1)
    eight=$(elapsed many_floors 8)
    printf '  %-14s %12s %12s %12s\n' floor "$(ms "$one")" "$(ms "$eight")" "$(ratio "$one" "$eight")"
    for e in "${engines[@]}"; do
        local -n command=cmd_$e
        one=$(elapsed many_starts 1 "${command[@]}")
        eight=$(elapsed many_starts 8 "${command[@]}")
        printf '  %-14s %12s %12s %12s\n' "$e" "$(ms "$one")" "$(ms "$eight")" "$(ratio "$one" "$eight")"
        [ "$e" != minirun ] || goal '8 at a time / in sequence, time' "$(ratio "$eight" "$one")" 0.556
    done
}

# The helpers are the processes with an engine's name that are new, in the host's
# pid namespace, and still there when the containers run.
helpers() {
    local host pid
    host=$(readlink /proc/self/ns/pid)
    for pid in $(ls /proc | grep -x '[0-9]*'); do
        [ "$(readlink "/proc/$pid/ns/pid" 2>/dev/null)" = "$host" ] || continue
        if readlink "/proc/$pid/exe" 2>/dev/null | cat - "/proc/$pid/comm" 2>/dev/null |
            grep -qE 'minirun|containerd-shim|conmon|docker-proxy|/runc'; then
            echo "$pid"
        fi
    done | sort
}

memory() {
    local e i pids kb left names
    echo; echo "memory of the helper processes (PSS), per running container, of $few"
    row '' 'kB each' 'left after'
    for e in "${engines[@]}"; do
        local -n command=cmd_$e
        helpers >"$tmp/before"
        names=()
        for ((i = 0; i < few; i++)); do
            names+=("mem$i")
            "${command[@]}" run -d --name "mem$i" --network none bench sleep 1000 >>"$log" 2>&1 || true
        done
        sleep 1
        pids=$(helpers | comm -13 "$tmp/before" -)
        kb=-
        if [ -n "$pids" ]; then
            # shellcheck disable=SC2086
            kb=$(for i in $pids; do cat "/proc/$i/smaps_rollup" 2>/dev/null; done |
                awk -v n="$few" '/^Pss:/ { s += $2 } END { printf "%d", s / n }')
        fi
        "${command[@]}" rm -f "${names[@]}" >>"$log" 2>&1 || true
        sleep 2
        left=0
        # A process that has ended but was not yet collected by pid 1 is gone for this purpose.
        for i in $pids; do ! grep -qs '^State:.[^Z]' "/proc/$i/status" || left=$((left + 1)); done
        row "$e" "$kb" "$left"
        if [ "$e" = minirun ]; then
            goal 'helpers, kB per container' "$kb" 1024
            goal 'helpers left after the end' "$left" 0
        fi
    done
}

# Nothing is deleted before the end: ext4 is very slow to make files where many were
# deleted in the last minutes. So each turn has a container or an archive of its own.

# Times committing what COMMAND changed, and tar + sha256 of the same upper layer.
commit_case() {
    local title=$1 turns=$2 limit=$3 change=$4 e i reference
    local upper=$tmp/upper.$turns
    echo; echo "$title, median of $turns"
    row '' time '/ tar+sha256'
    rm -f "$tmp"/commit.*
    mkdir "$upper"
    (cd "$upper" && sh -c "${change//\/src/$tmp\/files}") 2>>"$log"
    for ((i = 0; i < turns; i++)); do
        settle
        time_of sh -c "tar -C '$upper' -c . | sha256sum" >>"$tmp/commit.reference"
        for e in "${engines[@]}"; do
            local -n command=cmd_$e
            "${command[@]}" run --name "changed$turns.$i" --network none -v "$tmp/files:/src:ro" \
                bench sh -c "$change" >>"$log" 2>&1 || echo failed >>"$log"
            settle
            time_of "${command[@]}" commit "changed$turns.$i" "committed$turns.$i" >>"$tmp/commit.$e"
        done
    done
    reference=$(median <"$tmp/commit.reference")
    row tar+sha256 "$(ms "$reference")" 1
    for e in "${engines[@]}"; do
        i=$(median <"$tmp/commit.$e")
        row "$e" "$(ms "$i")" "$(ratio "$i" "$reference")"
        [ "$e" != minirun ] || "$limit" "$title" "$i" "$reference"
    done
}

small_goal() { goal "$1, ms" "$(ratio "$2" 1000)" 30; }
big_goal() { goal "$1 / tar+sha256" "$(ratio "$2" "$3")" 1.5; }

commit() {
    # One random file cut up: as many files and bytes as asked, by two processes.
    mkdir -p "$tmp/files"
    head -c 500000000 /dev/urandom | (cd "$tmp/files" && split -b 25000 -a 5 -d)
    # In a container the working directory is /, on the host the reference directory.
    commit_case 'commit of one changed file' 5 small_goal 'echo changed >changed'
    commit_case 'commit of 20,000 files, 500 MB' 3 big_goal 'mkdir data && cp -R /src/. data/'
}

# The Debian tar with one file more, whose content makes the layer a new one.
variant_tar() {
    cp --sparse=never "$fixtures/debian.tar" "$2"
    mkdir -p "$tmp/variant"
    echo "$1" >"$tmp/variant/variant"
    tar -C "$tmp/variant" --owner 0 --group 0 --numeric-owner -rf "$2" ./variant
}

# A docker-archive of one layer: archive TAR TAG OUT.
archive() {
    local dir=$tmp/archive diff
    rm -rf "$dir" && mkdir "$dir"
    diff=$(sha256sum <"$1")
    ln "$1" "$dir/layer.tar"
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "${diff%% *}" >"$dir/config.json"
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$2" >"$dir/manifest.json"
    tar -C "$dir" -cf "$3" manifest.json config.json layer.tar
}

images() {
    local e i kind measured untar sha slower tar=$fixtures/debian.tar
    for ((i = 0; i < 3; i++)); do
        variant_tar "load $i" "$tmp/load.tar"
        archive "$tmp/load.tar" "loaded$i:latest" "$tmp/load$i"
        rm "$tmp/load.tar"
        variant_tar "import $i" "$tmp/import$i"
        mkdir "$tmp/untar$i"
        settle
        time_of tar -C "$tmp/untar$i" -xf "$tar" >>"$tmp/image.tar"
        time_of sha256sum "$tar" >>"$tmp/image.sha256"
        for e in "${engines[@]}"; do
            local -n command=cmd_$e
            settle
            time_of "${command[@]}" load -i "$tmp/load$i" >>"$tmp/image.load.$e"
            settle
            time_of "${command[@]}" import "$tmp/import$i" "imported$i" >>"$tmp/image.import.$e"
        done
    done
    untar=$(median <"$tmp/image.tar") sha=$(median <"$tmp/image.sha256")
    slower=$((untar > sha ? untar : sha))
    echo; echo "a Debian image of $(($(stat -c %s "$tar") >> 20)) MB into the store, median of 3"
    row '' time '/ slower'
    row 'tar x' "$(ms "$untar")" "$(ratio "$untar" "$slower")"
    row sha256sum "$(ms "$sha")" "$(ratio "$sha" "$slower")"
    for kind in load import; do
        for e in "${engines[@]}"; do
            measured=$(median <"$tmp/image.$kind.$e")
            row "$e $kind" "$(ms "$measured")" "$(ratio "$measured" "$slower")"
            [ "$e" != minirun ] || goal "$kind / slower of tar x and sha256sum" "$(ratio "$measured" "$slower")" 1.5
        done
    done
}

# Lists of a thousand images and a thousand containers.
many() {
    local what store=(--root "$tmp/many" --state "$volatile/many")
    "${MANY:-$(built many)}" "$minirun" "$tmp/many" "$volatile/many" "$fixtures/busybox.tar" 1000
    echo; echo "lists of 1000 images and 1000 containers, median of 9"
    for what in images 'ps -a'; do
        # The first look learns what later ones know.
        for _ in {0..9}; do
            # shellcheck disable=SC2086
            time_of "$minirun" "${store[@]}" $what
        done | tail -n 9 >"$tmp/many.figure"
        row "$what" "$(ms "$(median <"$tmp/many.figure")")" ''
        goal "$what, ms" "$(awk -v us="$(median <"$tmp/many.figure")" 'BEGIN { printf "%.1f", us / 1000 }')" 50
    done
}

# A docker-archive of Debian in two layers of about the same size, whose content is new in
# each turn: layers NUMBER [gzip].
layers() {
    local dir=$tmp/layers.$1${2:-} half diffs=()
    mkdir -p "$dir"
    echo "$dir" | tee "$tmp/debian/etc/turn" >"$tmp/debian/usr/share/turn"
    tar -C "$tmp/debian" --exclude ./usr/share --exclude ./usr/bin -cf "$dir/1" .
    tar -C "$tmp/debian" -cf "$dir/2" ./usr/share ./usr/bin
    for half in 1 2; do
        diffs+=("$(sha256sum <"$dir/$half")")
        [ "${2:-}" != gzip ] || gzip -1 -c "$dir/$half" >"$dir/packed"
        [ "${2:-}" != gzip ] || mv "$dir/packed" "$dir/$half"
    done
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
        "${diffs[0]%% *}" "${diffs[1]%% *}" >"$dir/config.json"
    printf '[{"Config":"config.json","RepoTags":["layers%s:latest"],"Layers":["1","2"]}]' "$1${2:-}" >"$dir/manifest.json"
    tar -C "$dir" -cf "$dir.tar" manifest.json config.json 1 2
}

# Into the store and out of it, beside each of the stages alone.
archives() {
    local e i kind slowest stages=(tar sha256 gunzip)
    mkdir -p "$tmp/debian"
    tar -C "$tmp/debian" -xf "$fixtures/debian.tar"
    for ((i = 0; i < 5; i++)); do
        layers "$i"
        layers "$i" gzip
        mkdir "$tmp/alone.$i"
        settle
        time_of sh -c "tar -C $tmp/alone.$i -xf $tmp/layers.$i/1 && tar -C $tmp/alone.$i -xf $tmp/layers.$i/2" >>"$tmp/archives.tar"
        time_of sha256sum "$tmp/layers.$i/1" "$tmp/layers.$i/2" >>"$tmp/archives.sha256"
        time_of sh -c "gzip -dc <$tmp/layers.${i}gzip/1 && gzip -dc <$tmp/layers.${i}gzip/2" >>"$tmp/archives.gunzip"
        for e in "${engines[@]}"; do
            local -n command=cmd_$e
            settle
            time_of "${command[@]}" load -q -i "$tmp/layers.$i.tar" >>"$tmp/archives.load.$e"
            settle
            time_of "${command[@]}" load -q -i "$tmp/layers.${i}gzip.tar" >>"$tmp/archives.load-gzip.$e"
            settle
            time_of "${command[@]}" save -o "$tmp/saved.$e.$i" "layers$i" >>"$tmp/archives.save.$e"
        done
    done
    echo; echo "Debian in two layers, median of 5"
    row '' time '/ slowest'
    for kind in "${stages[@]}"; do row "$kind alone" "$(ms "$(median <"$tmp/archives.$kind")")" ''; done
    for kind in load load-gzip save; do
        [ "$kind" = load-gzip ] || stages=(tar sha256)
        [ "$kind" != load-gzip ] || stages=(tar sha256 gunzip)
        slowest=$(for i in "${stages[@]}"; do median <"$tmp/archives.$i"; done | sort -n | tail -n 1)
        for e in "${engines[@]}"; do
            figure[$kind.$e]=$(median <"$tmp/archives.$kind.$e")
            row "$e $kind" "$(ms "${figure[$kind.$e]}")" "$(ratio "${figure[$kind.$e]}" "$slowest")"
        done
        [ "$have_minirun" ] || continue
        if [ "$kind" = save ]; then
            goal 'save / docker' "$(ratio "${figure[save.minirun]}" "${figure[save.docker]:--}")" 0.667
            continue
        fi
        goal "$kind / slowest stage alone" "$(ratio "${figure[$kind.minirun]}" "$slowest")" 1.3
        for e in docker podman; do
            goal "$kind / $e" "$(ratio "${figure[$kind.minirun]}" "${figure[$kind.$e]:--}")" 0.5
        done
    done
}

# A docker-archive of Debian in two layers that nobody has seen: halves VARIANT TAG OUT.
halves() {
    local dir=$tmp/halves half diffs=()
    if [ ! -d "$tmp/tree" ]; then
        mkdir "$tmp/tree"
        tar -C "$tmp/tree" -xf "$fixtures/debian.tar"
    fi
    rm -rf "$dir" && mkdir "$dir"
    echo "$1" >"$tmp/tree/variant"
    echo "$1" >"$tmp/tree/usr/lib/variant"
    tar -C "$tmp/tree" --numeric-owner -cf "$dir/1.tar" usr/lib
    tar -C "$tmp/tree" --numeric-owner --exclude ./usr/lib -cf "$dir/2.tar" .
    for half in 1 2; do diffs+=("$(sha256sum <"$dir/$half.tar" | cut -d' ' -f1)"); done
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
        "${diffs[@]}" >"$dir/config.json"
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["1.tar","2.tar"]}]' "$2" >"$dir/manifest.json"
    tar -C "$dir" -cf "$3" manifest.json config.json 1.tar 2.tar
}

# The address of a registry of our own on loopback; its pid goes to $tmp/registry.pid.
start_registry() {
    local port=5918 i
    cat >"$tmp/registry.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $tmp/registry}}
http: {addr: "127.0.0.1:$port", secret: x}
END
    docker-registry serve "$tmp/registry.yml" >>"$log" 2>&1 &
    echo $! >"$tmp/registry.pid"
    for ((i = 0; i < 100; i++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
        sleep 0.1
    done
    registry=localhost:$port
}

registry() {
    local e i measured registry source stage slowest=0 unchecked
    command -v docker-registry >/dev/null && [ "$have_minirun" ] || { echo; echo "registry: needs docker-registry"; return 0; }
    start_registry
    source=("$minirun" --root "$tmp/source" --state "$volatile/source")
    for ((i = 0; i < turns; i++)); do
        halves "pull $i" "$registry/pulled:$i" "$tmp/pulled.tar"
        "${source[@]}" load -q -i "$tmp/pulled.tar" >>"$log"
        "${source[@]}" push -q "$registry/pulled:$i" >>"$log" 2>&1
        halves "push $i" "pushed:$i" "$tmp/pushed.tar"
        for e in "${engines[@]}"; do
            local -n command=cmd_$e
            unchecked=''
            [ "$e" != podman ] || unchecked=--tls-verify=false
            settle
            time_of "${command[@]}" pull $unchecked "$registry/pulled:$i" >>"$tmp/registry.pull.$e"
            "${command[@]}" load -i "$tmp/pushed.tar" >>"$log" 2>&1
            "${command[@]}" tag "pushed:$i" "$registry/pushed-$e:$i" >>"$log" 2>&1
            settle
            time_of "${command[@]}" push $unchecked "$registry/pushed-$e:$i" >>"$tmp/registry.push.$e"
        done
    done
    # The stages of a pull by themselves, each by as many processes as there are layers.
    for i in 1 2; do gzip -c "$tmp/halves/$i.tar" >"$tmp/halves/$i.gz"; done
    settle
    for stage in 'gzip -dc $1.gz >/dev/null' 'sha256sum $1.tar' 'mkdir $1 && tar -C $1 -xf $1.tar'; do
        measured=$(cd "$tmp/halves" && time_of sh -c "each() { $stage; }; each 1 & each 2; wait")
        slowest=$((measured > slowest ? measured : slowest))
    done
    echo; echo "Debian in two layers from and to a registry on loopback, median of $turns"
    row '' time '/ minirun'
    row 'slowest stage' "$(ms "$slowest")" ''
    for i in pull push; do
        for e in "${engines[@]}"; do figure[$i.$e]=$(median <"$tmp/registry.$i.$e"); done
        for e in "${engines[@]}"; do
            row "$e $i" "$(ms "${figure[$i.$e]}")" "$(ratio "${figure[$i.$e]}" "${figure[$i.minirun]}")"
        done
    done
    goal 'pull / slowest stage' "$(ratio "${figure[pull.minirun]}" "$slowest")" 1.3
    goal 'pull / docker' "$(ratio "${figure[pull.minirun]}" "${figure[pull.docker]:--}")" 0.5
    goal 'pull / podman' "$(ratio "${figure[pull.minirun]}" "${figure[pull.podman]:--}")" 0.5
    goal 'push / docker' "$(ratio "${figure[push.minirun]}" "${figure[push.docker]:--}")" 0.667
    kill "$(<"$tmp/registry.pid")"
}

trap tear_down EXIT
trap 'exit 130' INT TERM
set_up
echo "$(uname -sr), $(nproc) processors; ${engines[*]} ${runtimes[*]}"
[ $# -gt 0 ] || set -- startup runtimes parallel memory images archives commit many registry network build
for part in "$@"; do "$part"; done

if [ ${#goals[@]} -gt 0 ]; then
    echo; echo "targets of minirun"
    printf '  %s\n' "${goals[@]}"
fi
if grep -q '^failed' "$log"; then
    echo; echo "commands that failed:"; grep -B2 '^failed' "$log" | head -n 20
fi

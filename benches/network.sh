# Sourced by run.sh: what a network costs at the start, and what a published port lets through.
# Docker runs once more here, in a network namespace that is its host, with its bridge and its rules.

# Waits for a dockerd with a bridge; sets cmd_bridged.
bridged_docker() {
    local i
    command -v dockerd >/dev/null || return 1
    unshare --net sh -c 'ip link set lo up; exec "$@"' - dockerd --data-root "$tmp/docker-net" \
        --exec-root "$volatile/docker-net" -H "unix://$tmp/docker-net.sock" --pidfile "$tmp/dockerd-net.pid" \
        >"$tmp/dockerd-net.log" 2>&1 &
    bridged_pid=$!
    cmd_bridged=("${cmd_docker[@]:0:1}" -H "unix://$tmp/docker-net.sock")
    for ((i = 0; i < 150; i++)); do
        ! "${cmd_bridged[@]}" import "$fixtures/busybox.tar" bench >>"$log" 2>&1 || return 0
        sleep 0.2
    done
    echo "bench: no docker with a bridge:" >&2
    tail -n 3 "$tmp/dockerd-net.log" >&2
    return 1
}

network_starts() {
    local i how e port=18080 with=(minirun) none one
    local -A flags=([none]='--network none' [bridge]='' [port]="-p $port:80")
    cmd_bridged=()
    ! bridged_docker || with+=(bridged)
    for ((i = 0; i < rounds; i++)); do
        for e in "${with[@]}"; do
            local -n command=cmd_$e
            for how in none bridge port; do
                # shellcheck disable=SC2086
                time_of "${command[@]}" run --rm ${flags[$how]} bench true >>"$tmp/network.$how.$e"
            done
        done
    done
    echo; echo "run --rm IMAGE true by network, median of $rounds rounds"
    printf '  %-14s %12s %12s %12s\n' '' none bridge '-p 80'
    for e in "${with[@]}"; do
        for how in none bridge port; do figure[network.$how.$e]=$(median <"$tmp/network.$how.$e"); done
        printf '  %-14s %12s %12s %12s\n' "${e/bridged/docker}" "$(ms "${figure[network.none.$e]}")" \
            "$(ms "${figure[network.bridge.$e]}")" "$(ms "${figure[network.port.$e]}")"
    done
    none=${figure[network.none.minirun]} one=${figure[network.port.minirun]}
    goal 'start with a port / (twice without network + 3 ms)' "$(ratio "$one" $((2 * none + 3000)))" 1
    goal 'start with a port / docker' "$(ratio "$one" "${figure[network.port.bridged]:--}")" 0.1
    if [ -n "${bridged_pid:-}" ]; then
        kill "$bridged_pid" 2>/dev/null || true
        wait "$bridged_pid" 2>/dev/null || true
    fi
}

# Megabytes a second that one probe pours into another.
rate() { awk -F= '/^bytes/ { b = $2 } /^microseconds/ { printf "%d", b / $2 }'; }

# Two namespaces as hosts, each with a cable to this one, and one from the one to the other.
throughput() {
    local i one other mib=2000 probe=$fixtures/probe bare=() port=()
    unshare --net sleep 1000 & one=$!
    unshare --net sleep 1000 & other=$!
    sleep 0.3
    inside() { nsenter "--net=/proc/$1/ns/net" "${@:2}"; }
    ip link add benchcable type veth peer name eth0 netns "$one"
    ip addr add 198.19.255.1/30 dev benchcable
    ip link set benchcable up
    inside "$one" sh -c 'ip addr add 198.19.255.2/30 dev eth0; ip link set eth0 up; ip route add default via 198.19.255.1'
    inside "$one" ip link add cable type veth peer name cable netns "$other"
    inside "$one" sh -c 'ip addr add 198.19.254.1/30 dev cable; ip link set cable up'
    inside "$other" sh -c 'ip addr add 198.19.254.2/30 dev cable; ip link set cable up'
    for ((i = 0; i < 5; i++)); do
        inside "$other" "$probe" drain 9000 >"$tmp/drained" & local server=$!
        sleep 0.2
        inside "$one" "$probe" pour 198.19.254.2 9000 $mib >>"$log"
        wait "$server"
        bare+=("$(rate <"$tmp/drained")")
        "${cmd_minirun[@]}" run -d --name drain -p 19000:9000 bench probe drain 9000 >>"$log"
        sleep 0.2
        inside "$one" "$probe" pour 198.19.255.1 19000 $mib >>"$log"
        "${cmd_minirun[@]}" wait drain >>"$log"
        port+=("$("${cmd_minirun[@]}" logs drain | rate)")
        "${cmd_minirun[@]}" rm drain >>"$log"
    done
    kill "$one" "$other"
    wait "$one" "$other" 2>/dev/null || true
    echo; echo "TCP from another host, $mib MB, median of 5"
    bare=$(printf '%s\n' "${bare[@]}" | median) port=$(printf '%s\n' "${port[@]}" | median)
    row 'bare cable' "$bare MB/s" ''
    row 'published port' "$port MB/s" "$(ratio "$port" "$bare")"
    goal 'bare cable / published port' "$(ratio "$bare" "$port")" 1.05
}

network() {
    [ "$have_minirun" ] || { echo; echo "network: needs minirun"; return 0; }
    network_starts
    throughput
    "${cmd_minirun[@]}" network prune -f >>"$log"
}

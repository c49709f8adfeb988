# Sourced by run.sh: builds of the same Dockerfiles by everybody who can. BuildKit is the docker client's own choice of
# builder, so docker is here twice; podman's builds are Buildah's.

builders=()
build_commands() {
    local e
    for e in "${engines[@]}"; do
        case $e in
        docker) builders+=(docker buildkit) ;;
        *) builders+=("$e") ;;
        esac
    done
}

# `build_with BUILDER PREFIX FLAGS…`: the builder's command line after a prefix.
build_with() {
    local builder=$1 how=$2 engine=$1 kit=0
    shift 2
    [ "$builder" != buildkit ] || { engine=docker kit=1; }
    local -n command=cmd_$engine
    DOCKER_BUILDKIT=$kit $how "${command[@]}" build --network none "$@" 2>>"$log" || echo "failed: $builder build" >>"$log"
}

# `build_case TITLE NAME CONTEXT FLAG…`: the same build several times by each.
build_case() {
    local title=$1 name=$2 context=$3 b i
    shift 3
    for ((i = 0; i < few; i++)); do
        for b in "${builders[@]}"; do
            settle
            build_with "$b" "$floor time" "$@" "$context" >>"$tmp/build.$name.$b"
        done
    done
    echo; echo "$title, median of $few rounds"
    row '' time '/ minirun'
    for b in "${builders[@]}"; do
        figure[build.$name.$b]=$(median <"$tmp/build.$name.$b")
        row "$b" "$(ms "${figure[build.$name.$b]}")" \
            "$(ratio "${figure[build.$name.$b]}" "${figure[build.$name.minirun]:--}")"
    done
}

build() {
    local i folder kit
    build_commands
    mkdir -p "$tmp/ten" "$tmp/many/files"
    { echo 'FROM bench'; for i in {1..10}; do echo "RUN true $i"; done; } >"$tmp/ten/Dockerfile"
    printf 'FROM bench\nCOPY files /files\n' >"$tmp/many/Dockerfile"
    for folder in {1..200}; do
        mkdir "$tmp/many/files/$folder"
        for i in {1..100}; do echo "$folder $i" >"$tmp/many/files/$folder/$i"; done
    done
    build_case 'ten RUN true' ten "$tmp/ten" --no-cache
    build_case 'the same, all cached' cached "$tmp/ten"
    build_case 'COPY of 20,000 files' many "$tmp/many" --no-cache
    kit() { ratio "${figure[build.$1.minirun]:--}" "${figure[build.$1.buildkit]:--}"; }
    goal 'ten RUN true / BuildKit' "$(kit ten)" 0.2
    goal 'a step of RUN true, us' "$((${figure[build.ten.minirun]:-0} / 10))" 30000
    goal 'cached / BuildKit' "$(kit cached)" 0.2
    goal 'cached, us' "${figure[build.cached.minirun]:--}" 100000
    goal 'COPY of 20,000 files / BuildKit' "$(kit many)" 0.5
}

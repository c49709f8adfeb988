#!/bin/bash
# Runs runc's own integration tests against several runtimes, file by file, each
# file in namespaces of its own, and compares what came of them.
#
#   RUNTIMES   words runc, minirun or a path        (runc minirun)
#   FILES      which of the tests' files            (all)
#   JOBS       files that run at the same time      (2)
#   TIMEOUT    seconds until a file is killed       (120)
#   MINIRUN    the binary                           (the release build)
#   PREPARED   set if prepare.sh has been run
#
# Results are below target/conformance/results: RUNTIME/FILE.tap with the output
# of what failed, and summary.tsv with a line a test. The status is 1 if minirun
# fails a test that runc passes and that docs/conformance.md does not name.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
repo=$(realpath "$here/../..")
dir=$repo/target/conformance
results=$dir/results
export MINIRUN_FIXTURES=${MINIRUN_FIXTURES:-$repo/target/fixtures}
read -ra runtimes <<<"${RUNTIMES:-runc minirun}"

die() { echo "conformance: $*" >&2; exit 2; }

# One file on one runtime; called by xargs.
one() {
    local runtime=$1 path=$2 file=$3 started=$EPOCHREALTIME
    local tap=$results/$runtime/${file%.bats}.tap
    rm -f "$tap"
    # These tests set real-time budgets.
    [ "$file" != update.bats ] || export REALTIME=1
    if ! "$here/isolated.sh" "${TIMEOUT:-120}" "$here/bats.sh" "$dir" "$path" "$file" "$tap"; then
        echo "# the whole file was killed after its time, or did not start" >>"$tap"
        # The only thing that could outlive its namespaces.
        losetup -n -O NAME,BACK-FILE | awk '$2 ~ "^/mnt/tmp/bats-run" { print $1 }' | xargs -r losetup -d
    fi
    awk -v a="$started" -v b="$EPOCHREALTIME" -v what="$file on $runtime" \
        'BEGIN { printf "%6.1f s  %s\n", b - a, what }' >&2
}
if [ "${1:-}" = --one ]; then
    one "$2" "$3" "$4"
    exit
fi

[ "$(id -u)" = 0 ] || die "must be root"
[ -n "${PREPARED:-}" ] || "$here/prepare.sh" "$dir"

names=() paths=()
for runtime in "${runtimes[@]}"; do
    case $runtime in
    */*) path=$(realpath -s "$runtime") ;;
    minirun)
        binary=${MINIRUN:-$repo/target/$(rustc -vV | sed -n 's/^host: //p')/release/minirun}
        mkdir -p "$dir/bin"
        path=$dir/bin/runc
        ln -sfn "$binary" "$path"
        ;;
    *) path=$(command -v "$runtime") || die "there is no runtime $runtime" ;;
    esac
    [ -x "$path" ] || die "$path is not there"
    names+=("$(basename "$runtime")")
    paths+=("$path")
done
read -ra files <<<"${FILES:-$(cd "$dir/runc/tests/integration" && echo *.bats)}"
for file in "${files[@]}"; do
    [ -e "$dir/runc/tests/integration/$file" ] || die "the tests have no file $file"
done

for i in "${!names[@]}"; do
    mkdir -p "$results/${names[i]}"
done
for file in "${files[@]}"; do
    for i in "${!names[@]}"; do
        printf '%s\n' "${names[i]}" "${paths[i]}" "$file"
    done
done | xargs -d '\n' -n 3 -P "${JOBS:-2}" "$0" --one

for file in "${files[@]}"; do
    for name in "${names[@]}"; do
        awk -v runtime="$name" -v file="$file" -f "$here/tap.awk" \
            "$dir/runc/tests/integration/$file" "$results/$name/${file%.bats}.tap"
    done
done >"$results/summary.tsv"
echo
echo "runc's tests, version $(cat "$dir/runc/.version")"
awk -v runtimes="${names[*]}" -v document="$repo/docs/conformance.md" -f "$here/table.awk" "$results/summary.tsv"

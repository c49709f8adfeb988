#!/bin/bash
# Runs tests in an emulated machine with Debian's kernel and cgroup v2 only.
#
#   run.sh                   the integration tests named in tests/vm/selection, and
#                            the unit tests of the cgroups
#   run.sh NAME...           other test names or parts of names ('' is every test)
#   run.sh --unit NAME...    only the unit tests with these names
#   run.sh --shell COMMAND   a shell command instead of the tests
#
# Makes below target/vm: the kernel (unpacked from its package), base.img (ext4:
# the Debian fixture, busybox, the fixtures), initramfs, payload.tar (what is
# tested, which the guest reads as its second disk), console.log.
#
# Environment: VM_MINIRUN and VM_TESTS name the binaries (default: the debug
# build), VM_PAYLOAD a directory of more files for /payload, VM_TIMEOUT seconds until the machine is killed (600), VM_ACCEL (tcg).
set -euo pipefail

here=$(dirname "$(realpath "$0")")
repo=$(realpath "$here/../..")
vm=$repo/target/vm
fixtures=${MINIRUN_FIXTURES:-$repo/target/fixtures}
triple=$(rustc -vV | sed -n 's/^host: //p')
minirun=${VM_MINIRUN:-$repo/target/$triple/debug/minirun}

die() { echo "vm: $*" >&2; exit 1; }

kernel() {
    local package
    if ! compgen -G "$vm/kernel/boot/vmlinuz-*" >/dev/null; then
        "$repo/rootfs-fixtures/deps.sh" kmod cpio
        rm -rf "$vm/kernel" "$vm/package"
        mkdir -p "$vm/package"
        package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
        (cd "$vm/package" && apt-get download -qq -o APT::Sandbox::User=root "$package")
        dpkg -x "$vm/package"/*.deb "$vm/kernel.part"
        mv "$vm/kernel.part" "$vm/kernel"
        rm -rf "$vm/package"
    fi
    version=$(basename "$vm"/kernel/boot/vmlinuz-*)
    version=${version#vmlinuz-}
}

# The initramfs only loads modules, in an order that depmod found, and goes on to
# the disk: pivot_root does not work on an initramfs, so no test could run there.
initramfs() {
    [ "$vm/initramfs" -nt "$here/init" ] && [ "$vm/initramfs" -nt "$0" ] && return
    local modules='virtio_pci virtio_blk ext4 overlay veth bridge br_netfilter nf_tables
        nft_chain_nat nft_masq nft_nat nft_redir nft_reject_inet nft_fib_inet nft_ct nf_conntrack xt_MASQUERADE nft_compat'
    local dir=$vm/initramfs.d file n=100
    rm -rf "$dir" && mkdir -p "$dir"/{bin,modules,dev,proc,sys,disk}
    cp "$(dpkg -L busybox-static | grep -m1 '/busybox$')" "$dir/bin/busybox"
    cp "$here/init" "$dir/init"
    depmod -b "$vm/kernel" "$version"
    for file in $(for m in $modules; do
            modprobe -d "$vm/kernel" -S "$version" --show-depends "$m" | awk '$1 == "insmod" { print $2 }'
        done | awk '!seen[$0]++'); do
        cp "$file" "$dir/modules/$((n++))-$(basename "$file")"
    done
    (cd "$dir" && find . -print0 | cpio --quiet -0 -o -H newc) >"$vm/initramfs"
    rm -rf "$dir"
}

# The tree is put together on a tmpfs in a mount namespace of its own.
base_image() {
    local image=$vm/base.img input
    for input in "$0" "$fixtures"/{busybox.tar,debian.tar,probe}; do
        [ "$image" -nt "$input" ] || { rm -f "$image"; break; }
    done
    [ ! -e "$image" ] || return 0
    unshare --mount --propagation private bash -euc '
        fixtures=$1 image=$2
        mount -t tmpfs -o mode=755 tmpfs /mnt
        tar -C /mnt -xf "$fixtures/debian.tar"
        mkdir /mnt/fixtures /mnt/payload
        cp "$fixtures"/{busybox.tar,debian.tar,probe} /mnt/fixtures/
        tar -C /mnt -xf "$fixtures/busybox.tar" ./bin/busybox
        for applet in $(/mnt/bin/busybox --list); do
            [ -e "/mnt/usr/bin/$applet" ] || [ -e "/mnt/usr/sbin/$applet" ] ||
                ln -s busybox "/mnt/usr/bin/$applet"
        done
        truncate -s 3G "$image.part"
        mke2fs -q -F -t ext4 -d /mnt -E nodiscard "$image.part"
    ' - "$fixtures" "$image"
    mv "$image.part" "$image"
}

test_binary() {
    if [ -n "${VM_TESTS:-}" ]; then
        echo "$VM_TESTS"
        return
    fi
    (cd "$repo" && cargo test --quiet --no-run --test integration --message-format=json) |
        sed -n 's/.*"executable":"\([^"]*integration-[^"]*\)".*/\1/p' | tail -n 1
}

unit_binary() {
    (cd "$repo" && cargo test --quiet --no-run --lib --message-format=json) |
        sed -n 's/.*"executable":"\([^"]*\/minirun-[^"]*\)".*/\1/p' | tail -n 1
}

# Test names to run; each must name a test, or a renamed one would drop out unseen.
filters() {
    local tests=$1 name list
    shift
    list=$("$tests" --list --format terse 2>/dev/null)
    [ $# -gt 0 ] || mapfile -t names < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$here/selection")
    [ $# -eq 0 ] || names=("$@")
    for name in "${names[@]}"; do
        grep -qF -- "$name" <<<"$list" || die "no test is called like '$name'"
    done
}

mkdir -p "$vm"
"$repo/rootfs-fixtures/deps.sh" qemu-system-x86 e2fsprogs busybox-static
[ -e "$fixtures/debian.tar" ] && [ -e "$fixtures/busybox.tar" ] ||
    "$repo/rootfs-fixtures/build.sh" "$fixtures"
kernel
initramfs
base_image

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
cp "$here/guest.sh" "$payload/"
[ -z "${VM_PAYLOAD:-}" ] || cp -a "$VM_PAYLOAD/." "$payload/"
if [ "${1:-}" = --shell ]; then
    printf '%s\n' "${2:?--shell needs a command}" >"$payload/command"
elif [ "${1:-}" = --unit ]; then
    shift
    cp "$(unit_binary)" "$payload/unit"
    printf '%s\n' "$@" >"$payload/unit-filters"
else
    tests=$(test_binary)
    [ -n "$tests" ] || die "no integration test binary"
    [ -e "$minirun" ] || die "$minirun is not built"
    names=()
    filters "$tests" "$@"
    [ ${#names[@]} -gt 0 ] || die "nothing selected"
    cp "$tests" "$payload/integration"
    printf '%s\n' "${names[@]}" >"$payload/filters"
    if [ $# -eq 0 ]; then
        cp "$(unit_binary)" "$payload/unit"
        echo cgroup::tests >"$payload/unit-filters"
    fi
fi
# Now, not before: building the tests builds it, too.
[ ! -e "$minirun" ] || cp "$minirun" "$payload/minirun"
tar -C "$payload" -cf "$vm/payload.tar" .

boot() {
    local started=$EPOCHREALTIME
    # Without cx16: its emulation has let the kernel turn in its memory allocator for ever. A kernel that locks up says
    # where, and is gone, instead of standing still.
    timeout --kill-after=5 "${VM_TIMEOUT:-600}" qemu-system-x86_64 \
        -machine q35 -accel "${VM_ACCEL:-tcg}" -cpu max,-cx16 -smp 2 -m 2048 -no-reboot \
        -nodefaults -display none -serial stdio \
        -kernel "$vm/kernel/boot/vmlinuz-$version" -initrd "$vm/initramfs" \
        -append "console=ttyS0 quiet panic=-1 softlockup_panic=1 mitigations=off" \
        -drive "file=$vm/base.img,if=virtio,format=raw,snapshot=on,cache=unsafe" \
        -drive "file=$vm/payload.tar,if=virtio,format=raw,readonly=on" \
        </dev/null 2>&1 | sed -u 's/\r//g' | tee "$vm/console.log" || true
    awk -v a="$started" -v b="$EPOCHREALTIME" \
        'BEGIN { printf "vm: %.1f s from power on to power off\n", b - a }'
}

boot
if grep -q '^\[.*\] Kernel panic - not syncing: softlockup' "$vm/console.log"; then
    # Seen with emulated processors only, once in some runs, before they were without cx16.
    mv "$vm/console.log" "$vm/lockup.log"
    echo "vm: the emulated kernel locked up, see above and $vm/lockup.log; everything once more"
    boot
fi

status=$(sed -n 's/^VM-STATUS \([0-9]*\)$/\1/p' "$vm/console.log" | tail -n 1)
[ -n "$status" ] || die "the machine ended without a status (killed after a time-out, or it crashed)"
if [ "${1:-}" != --shell ]; then
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$vm/console.log" | tail -n 1)
    [ "$status" != 0 ] || [ "${passed:-0}" -gt 0 ] || die "no test ran"
fi
exit "$status"

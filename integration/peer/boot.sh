#!/bin/sh
# Process 1 of the guest, first stage: runs on the machine's own root (hostfs, read-only) and puts a tmpfs over it,
# so that everything installed on the machine is there and nothing the guest writes comes back.
# @SHARE@, @MODULES@ and @LAYER@ (packages to lay over the root; may be nothing) are filled in by the launcher.
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
fail() { echo "guest: $1"; mount -n -t proc proc /proc 2>/dev/null; echo o >/proc/sysrq-trigger; sleep 5; }
mount -n -t proc proc /proc
insmod "@MODULES@/$(uname -r)/kernel/fs/overlayfs/overlay.ko" || fail "no overlay module"
umount -n /proc
mount -n -t tmpfs -o mode=0755 above /mnt || fail "no tmpfs"
mkdir /mnt/upper /mnt/work /mnt/root /mnt/layer
lower=/
if [ -n "@LAYER@" ]; then
    mount -n -t hostfs -o "@LAYER@" layer /mnt/layer || fail "no layer"
    lower=/mnt/layer:/
fi
mount -n -t overlay -o lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work above /mnt/root || fail "no overlay"
cd /mnt/root || fail "no root"
mkdir -p lib/modules peer
mount -n -t hostfs -o "@SHARE@" share peer || fail "no share"
mount -n -t hostfs -o "@MODULES@" modules lib/modules || fail "no modules"
exec chroot . /bin/bash /peer/agent.sh

# Process 1 of the guest, second stage: makes the place habitable, then takes orders over a serial line.
#
# An order is one line, the name of a script /peer/NAME.sh. It runs in a session of its own with its output in
# /peer/NAME.out; "NAME STATUS" is the answer. Orders run one after the other: what must go on, goes to the background.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys
mountpoint -q /dev || mount -n -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -n -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp /var/log; do mount -n -t tmpfs -o mode=1777 tmpfs "$dir"; done
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin; ln -sfn fd/1 /dev/stdout; ln -sfn fd/2 /dev/stderr
echo 127.0.0.1 localhost >/etc/hosts
: >/etc/resolv.conf
ip link set lo up
for link in /sys/class/net/vec*; do
    [ -e "$link" ] || continue
    name=${link##*/}
    ip link set "$name" name "eth${name#vec}"
    # A raw-frame reader at the far end (AF_PACKET, DPDK) takes no oversized frames.
    ethtool -K "eth${name#vec}" tso off gso off gro off >/dev/null 2>&1
done
for module in esp4 ip_gre xfrm_user; do modprobe "$module" || echo "guest: no module $module" >/dev/console; done
stty -F /dev/ttyS0 raw -echo
exec 3<>/dev/ttyS0
echo "ready 0" >&3
while read -r order <&3; do
    [ -n "$order" ] || continue
    setsid --wait bash "/peer/$order.sh" </dev/null >"/peer/$order.out" 2>&1 3>&-
    status=$?
    sync -f "/peer/$order.out"
    echo "$order $status" >&3
done

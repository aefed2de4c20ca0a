#!/bin/busybox sh
# The guest's first process: what a normal system has mounted, then the script, its result, and off.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100} KPROBE_VM=1
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for fd in fd:. stdin:0 stdout:1 stderr:2; do
    [ -e "/dev/${fd%%:*}" ] || ln -s "/proc/self/fd/${fd##*:}" "/dev/${fd%%:*}"
done
ip link set lo up
hostname guest
for module in /lib/modules/*.ko; do
    insmod "$module"
done
mkdir -p /disk
mount -t ext4 /dev/vda /disk
cd /root
nonce=$(sed 's/.*kprobe\.nonce=\([0-9a-f]*\).*/\1/' /proc/cmdline)
if grep -q kprobe.shell /proc/cmdline; then
    setsid cttyhack sh
else
    echo "KPROBE-VM-BEGIN $nonce"
    sh /run/script </dev/null
    status=$?
    echo
    echo "KPROBE-VM-RESULT $nonce $status"
fi
poweroff -f

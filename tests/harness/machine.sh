#!/bin/bash
# Boots a machine from this one's files: an overlay that forgets everything, its own processes, network and mounts,
# and systemd as its first process. Runs as root in fresh namespaces; machine.rs makes them.
set -euo pipefail
dir=$1
mount -t tmpfs -o mode=755 tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
cd "$dir/root"
mount -t proc proc proc
# The kernel's settings belong to the real machine: the booted one must not apply its own.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
# systemd counts processes by a hierarchy: of the old kind beside one of the new where this machine has both, or the
# new one alone.
if mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup && mkdir sys/fs/cgroup/{systemd,unified} &&
    mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd 2> /dev/null; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
else
    umount sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
# Nothing starts by itself but the journal; what a test installs comes on top.
rm -rf etc/systemd/system/*.wants {usr/,}lib/systemd/system/{sysinit,basic,sockets,timers,local-fs,multi-user,graphical}.target.wants
units=usr/lib/systemd/system
mkdir -p $units/sysinit.target.wants $units/sockets.target.wants
ln -s ../systemd-journald.service $units/sysinit.target.wants/
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket $units/sockets.target.wants/
ln -sf /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
# Images for containers forbid packages to start what they bring.
rm -f etc/fstab usr/sbin/policy-rc.d
ip link set lo up
ip link add eth0 type veth peer name wire
ip address add 192.0.2.10/24 dev eth0
ip link set wire up
ip link set eth0 up
mkdir -p old
pivot_root . old
umount -l old
exec env -i container=outlast PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=journal

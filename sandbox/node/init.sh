#!/bin/sh
# The first process of a node: gives it a root file system of its own, then reaps orphans until it is killed.
# Runs in fresh namespaces (mount, pid, uts, ipc, net). Wants LOWERS STATE IMAGES PROGRAMS NODE_NAME.
set -eu
root="$STATE/root"
mkdir -p "$root" "$STATE/upper" "$STATE/work" "$STATE/kubelet" "$STATE/etc" "$IMAGES"
mount -t overlay overlay -o "lowerdir=$LOWERS,upperdir=$STATE/upper,workdir=$STATE/work" "$root"
cd "$root"
mkdir -p opt/kube etc/kubernetes var/lib/containerd var/lib/kubelet var/lib/volumes .old
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind "$IMAGES" var/lib/containerd
mount --bind "$STATE/kubelet" var/lib/kubelet
mount --bind "$PROGRAMS" opt/kube
mount -o remount,ro,bind opt/kube
mount --bind "$STATE/etc" etc/kubernetes
mount -o remount,ro,bind etc/kubernetes
echo "127.0.0.1 localhost" > etc/hosts
: > etc/resolv.conf # nothing beyond the cluster is ever asked
pivot_root . .old
umount -l /.old
mount --make-rshared /
hostname "$NODE_NAME"
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] && echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
touch /run/init-done
exec bash -c 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'

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
mount -o remount,ro,bind sys # not its cgroups, which are mounts of their own
mount -t tmpfs -o mode=755 tmpfs run

# The kernel's settings are this machine's. The node writes those of its network alone; those that the kubelet would
# change (setupKernelTunables) have its values in the node's view, and stay on this machine as they are.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file="run/$(basename "${setting%=*}")"
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "proc/sys/${setting%=*}"
done
mount -o remount,ro,bind proc/sys

# No disk, no kernel log, nothing but what programs expect: the kubelet reads an empty /dev/kmsg.
mount -t tmpfs -o mode=755,nosuid,size=64k tmpfs dev
for device in null=null zero=zero full=full random=random urandom=urandom tty=tty null=kmsg; do
  : > "dev/${device#*=}"
  mount --bind "/dev/${device%=*}" "dev/${device#*=}"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0=stdin 1=stdout 2=stderr; do
  ln -s "/proc/self/fd/${number%=*}" "dev/${number#*=}"
done

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

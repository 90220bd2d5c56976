#!/bin/sh
# First stage of a node: the read-only root of the host under a writable layer
# in memory, the lab's folder beside it, then labnode.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
	case $word in lab.share=*) share=${word#lab.share=} ;; esac
done
modprobe overlay
mount -t tmpfs upper /mnt
mkdir /mnt/up /mnt/work /mnt/root
mount -t overlay root -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work /mnt/root
mount -t hostfs share -o "ro,$share" /mnt/root/lab
exec switch_root /mnt/root /lab/labnode init

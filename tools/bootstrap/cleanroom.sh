#!/bin/sh
# cleanroom.sh ['GOAL [NAME=VALUE ...]']: makes a Debian root with git and make
# and nothing else of ours, clones this checkout's last commit into it and runs
# `make GOAL` there (default: build). It shows that a clone needs no more than the
# README says.
#
# As root. The root lives in a private mount namespace and is removed at the end.
# KEEP=1 keeps it and says where it is.
set -eu

goal=${1:-build}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

if [ "${CLEANROOM_INSIDE:-}" != 1 ]; then
	[ "$(id -u)" = 0 ] || { echo "cleanroom: run it as root"; exit 1; }
	command -v mmdebstrap >/dev/null || sh "$here/install.sh" 'to make a clean root' mmdebstrap
	CLEANROOM_INSIDE=1 exec unshare --mount --pid --fork --propagation private sh "$0" "$goal"
fi

room=$(mktemp -d "${TMPDIR:-/tmp}/quorate-cleanroom.XXXXXX")
chmod 755 "$room"
# mounts lists what is mounted below the root, the innermost first: what this
# script mounted, and what the goal did (a lab mounts /run/netns).
mounts() { awk -v below="$room/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r; }
finish() {
	status=$?
	trap - EXIT
	mounts | while read -r at; do umount -l "$at" || true; done
	if [ "${KEEP:-}" = 1 ]; then
		echo "cleanroom: kept in $room"
	elif [ -n "$(mounts)" ]; then
		echo "cleanroom: $room has mounts and was left:" $(mounts)
		[ "$status" != 0 ] || status=1
	else
		rm -rf --one-file-system "$room"
	fi
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
echo "cleanroom: a Debian $release root with git and make in $room"
apt-get indextargets --no-release-info --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk -v r="$release" '$4 == "main" && index($3, r) == 1 && !seen[$0]++' >"$room.list"
mmdebstrap --quiet --variant=apt --include=git,make "$release" "$room" "$room.list" || {
	rm -f "$room.list"
	echo "cleanroom: mmdebstrap failed"
	exit 1
}
rm -f "$room.list"

# Certificate authorities of this machine's own (a proxy's, say) go along, and
# the resolver; nothing else does.
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
	mkdir -p "$room/usr/local/share/ca-certificates"
	cp /etc/ssl/certs/ca-certificates.crt "$room/usr/local/share/ca-certificates/host.crt"
fi
cp /etc/resolv.conf /etc/hosts "$room/etc/"
for d in dev sys; do mount --rbind "/$d" "$room/$d"; done
mount -t proc proc "$room/proc"

git clone --quiet --no-local "$top" "$room/root/quorate"
echo "cleanroom: make $goal"
env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" CI="${CI:-}" \
	chroot "$room" sh -c "cd /root/quorate && ! command -v go && make $goal"
echo "cleanroom: make $goal worked in a clean root"

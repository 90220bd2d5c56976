#!/bin/sh
# install.sh WHY PACKAGE...: installs Debian packages on this machine, after
# saying which and why. Lists are refreshed only when they do not know one.
set -eu

why=$1
shift
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "bootstrap: needed $why: $*; install them (as root: apt-get install $*)"
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Asked by a dry run: apt-cache show is content with a package that it only knows
# as somebody's dependency.
if ! apt-get install -s -qq --no-install-recommends "$@" >/dev/null 2>&1; then
	echo "bootstrap: refreshing the package lists (apt-get update)"
	apt-get update -qq
fi
echo "bootstrap: installing on this machine, $why: $*"
apt-get install -y -qq --no-install-recommends "$@" >/dev/null

#!/bin/sh
# debian-go.sh CACHE: unpacks Debian's newest Go into CACHE/go-<release>.
#
# It works with an apt configuration of its own (lists, sources, archives below
# CACHE/apt), made from what the host's apt says of its mirrors. Nothing of the
# host is changed and nothing is installed; it needs no root.
set -eu

cache=$1
say() { echo "bootstrap: $*"; }
die() { say "$*"; exit 1; }

command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
	die "this is no Debian system: install Go 1.21 or newer and put it in PATH"
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
[ -n "$release" ] || die "/etc/os-release names no Debian release: install Go 1.21 or newer and put it in PATH"

apt=$cache/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
signed=
[ -s /usr/share/keyrings/debian-archive-keyring.gpg ] && signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '

# Read after the host's own configuration, so that its proxies still apply.
cat >"$apt/conf" <<CONF
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-hidpi::DefaultEnabled "false";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF

# mirrors: where the host has this release's main from; other vendors use the
# same words, so each is tried and Debian's key decides.
mirrors() {
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v r="$release" '$3 == "main" && ($2 == r || $2 ~ /^(old)*stable$/) && !seen[$1]++ { print $1 }'
}

# newest: the newest golang-1.N-go that the private lists know.
newest() {
	apt-cache -c "$apt/conf" pkgnames golang-1. | sed -n 's/^golang-1\.\([0-9][0-9]*\)-go$/\1/p' | sort -n | tail -n 1
}

minor=
for mirror in $(mirrors); do
	for suites in "$release $release-backports" "$release"; do
		: >"$apt/sources.list"
		for s in $suites; do echo "deb $signed$mirror $s main" >>"$apt/sources.list"; done
		say "asking $mirror for its package lists of: $suites"
		apt-get -c "$apt/conf" update -qq -o APT::Update::Error-Mode=any >"$apt/log" 2>&1 || continue
		minor=$(newest)
		[ "${minor:-0}" -ge 21 ] && break 2
	done
done
if [ "${minor:-0}" -lt 21 ]; then
	[ -s "$apt/log" ] && cat "$apt/log"
	die "no Debian mirror of this machine offers Go 1.21 or newer: install it and put it in PATH"
fi

packages="golang-1.$minor-go golang-1.$minor-src"
dir=$cache/go-$release-1.$minor
say "fetching $packages and unpacking them into $dir (about 45 MB; nothing is installed)"
new=$(mktemp -d "$dir.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
# shellcheck disable=SC2086 # two words
(cd "$new" && apt-get -c "$apt/conf" download -q $packages) || die "the download failed; run it again"
for deb in "$new"/*.deb; do
	dpkg -x "$deb" "$new" || die "$deb could not be unpacked: is the disk full?"
	rm -f "$deb"
done
chmod 755 "$new"
rm -rf "$dir"
mv "$new" "$dir"
say "Go 1.$minor is in $dir"

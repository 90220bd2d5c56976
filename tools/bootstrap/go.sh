#!/bin/sh
# Prints the path of the go program that this checkout is built with.
#
# Order: the go of PATH when it is 1.21 or newer (the first that can fetch
# another toolchain by itself), else one from Debian, unpacked into the cache
# and not installed. Go's own toolchain switch then brings what go.mod asks for.
# Everything that is fetched is named first, on standard error.
set -eu

oldest=21
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/quorate

say() { echo "bootstrap: $*" >&2; }
die() { say "$*"; exit 1; }

# usable GO: whether it runs and is new enough to switch toolchains.
usable() {
	version=$(cd / && GOTOOLCHAIN=local GOFLAGS='' "$1" env GOVERSION 2>/dev/null) || return 1
	minor=${version#go1.}
	minor=${minor%%[!0-9]*}
	[ -n "$minor" ] && [ "$minor" -ge $oldest ]
}

cached() { ls -d "$cache"/go-*/usr/lib/go-1.*/bin/go 2>/dev/null | sort -V | tail -n 1; }

# roots makes sure that TLS can be checked: the module proxy speaks nothing else.
roots() {
	for f in "${SSL_CERT_FILE:-/nonexistent}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
		[ -s "$f" ] && return 0
	done
	[ -n "${SSL_CERT_DIR:-}" ] && return 0
	sh "$top/tools/bootstrap/install.sh" 'to check TLS certificates of the module proxy' ca-certificates >&2
}

go=$(command -v go || true)
if [ -z "$go" ] || ! usable "$go"; then
	have=${go:+$(cd / && GOTOOLCHAIN=local "$go" version 2>/dev/null | cut -d' ' -f3)}
	go=$(cached)
	if [ -z "$go" ] || ! usable "$go"; then
		say "Go ${have:-is not in PATH}${have:+ is too old}: 1.$oldest or newer is needed"
		sh "$top/tools/bootstrap/debian-go.sh" "$cache" >&2
		go=$(cached)
		{ [ -n "$go" ] && usable "$go"; } || die "the Go that was fetched does not run; install Go 1.$oldest or newer and put it in PATH"
	fi
fi
roots

# older A B: whether version A comes before version B.
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# The toolchain that go.mod asks for, so that tools run by this path use it too.
want=$(sed -n 's/^go //p' "$top/go.mod")
is=$(cd / && GOTOOLCHAIN=local GOFLAGS='' "$go" env GOVERSION)
if older "${is#go}" "$want"; then
	modules=$(cd / && GOTOOLCHAIN=local GOFLAGS='' "$go" env GOMODCACHE)
	ls -d "$modules"/golang.org/toolchain@*-go"$want".* >/dev/null 2>&1 ||
		say "go.mod asks for Go $want, this is ${is#go}: fetching that toolchain through the module proxy (about 70 MB, into $modules)"
fi
root=$(cd "$top" && GOTOOLCHAIN=auto "$go" env GOROOT) ||
	die "Go $want could not be had: is the module proxy reachable (go env GOPROXY)? Or install Go $want and put it in PATH"
echo "$root/bin/go"

#!/bin/sh
# generate.sh [verify]: compiles the kernel's programs below ebpf/ into the objects that
# stand beside them, with one version of clang: another one gives other bytes. With
# verify it fails when those that stood there were not the same.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
clang=19.1.7
cd "$top"

if ! command -v clang-19 >/dev/null || ! command -v llvm-strip-19 >/dev/null; then
	sh tools/bootstrap/install.sh 'to compile programs for the kernel' clang-19 llvm-19
fi
have=$(clang-19 --version | sed -n 's/.*clang version \([0-9.]*\).*/\1/p')
if [ "$have" != "$clang" ]; then
	echo "generate: clang-19 is $have, and the objects are made with $clang, of Debian 12 and 13: use one of these"
	exit 1
fi

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
find ebpf -name 'bpf_bpfe[lb].*' -exec cp --parents {} "$old" \;
go generate ./ebpf/...
[ "${1:-}" = verify ] || exit 0
if ! diff -rq "$old/ebpf" ebpf | grep -v '^Only in ebpf'; then
	echo "generate: the objects below ebpf/ are those of their sources"
	exit 0
fi
echo 'generate: these were not what their sources give; they are now: look at git diff, and commit them'
exit 1

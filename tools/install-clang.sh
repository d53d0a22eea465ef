#!/usr/bin/env bash
# Installs the one compiler that the committed BPF objects are built with, and its formatter.
# Another clang, even another patch release, gives other bytes, so the version is pinned.
set -euo pipefail

version=19.1.7-3~deb12u1
banner='version 19.1.7 (3~deb12u1)'

installed() {
	command -v llvm-strip-19 >/dev/null &&
		[[ $(clang-19 --version 2>/dev/null) == *"$banner"* ]] &&
		[[ $(clang-format-19 --version 2>/dev/null) == *"$banner"* ]]
}

if installed; then
	exit 0
fi
if [[ $EUID -ne 0 ]]; then
	echo "install-clang: run as root, or install clang-19, clang-format-19 and llvm-19 1:$version yourself" >&2
	exit 1
fi
if [[ $(apt-cache madison clang-19 2>/dev/null) != *"1:$version"* ]]; then
	apt-get update -qq
fi
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --allow-downgrades \
	"clang-19=1:$version" "clang-format-19=1:$version" "llvm-19=1:$version" >/dev/null
if ! installed; then
	echo "install-clang: clang-19 is still not 1:$version: $(clang-19 --version | head -n 1)" >&2
	exit 1
fi

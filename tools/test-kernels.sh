#!/usr/bin/env bash
# Runs the test programs of a directory on Debian's kernels, in one virtual machine after the other for
# each kernel, all kernels at the same time: an emulated machine has one processor.
#
#	tools/test-kernels.sh DIRECTORY KERNEL...
set -euo pipefail

dir=$(realpath "$1")
shift
cd "$(dirname "$0")"

run() { # a kernel
	local binary name failed=0
	for binary in "$dir"/*.test; do
		name=${binary##*/}
		echo "== linux $1: $name"
		go run ./vm -kernel "$1" -timeout 60m -env LB_TEST_SCALE=0.001 -- "$binary" -test.v=test2json |
			go tool test2json -p "$1/${name%.test}" | go run ./noskip || failed=1
	done
	return $failed
}

declare -A running
for kernel; do
	run "$kernel" >"$dir/$kernel.log" 2>&1 &
	running[$kernel]=$!
done
failed=0
for kernel; do
	wait "${running[$kernel]}" || failed=1
	cat "$dir/$kernel.log"
done
exit $failed

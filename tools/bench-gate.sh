#!/usr/bin/env bash
# Counts the instructions that packets cost in an emulated machine and compares them with
# tools/bench-gate.txt: growth of more than 5 % fails. With -update writes that file instead.
# The figures are exact for one compiler, object and kernel, whatever else this machine does.
set -euo pipefail
cd "$(dirname "$0")"

figures=$PWD/bench-gate.txt
update=false
case ${1-} in
-update) update=true ;;
?*)
	echo "usage: tools/bench-gate.sh [-update]" >&2
	exit 2
	;;
esac

./vm/setup.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0
go -C .. test -c -o "$work/gate.test" ./internal/datapath
if ! go run ./vm -kernel 6.1 -icount -env LB_GATE=1 -- "$work/gate.test" \
	-test.run '^$' -test.bench '^BenchmarkGate$' -test.benchtime 1x >"$work/output"; then
	cat "$work/output" >&2
	exit 1
fi
awk '$NF == "instructions" { sub(/^BenchmarkGate\//, "", $1); print $1, $(NF - 1) + 0 }' \
	"$work/output" >"$work/measured"
if [[ ! -s $work/measured ]]; then
	cat "$work/output" >&2
	echo "bench-gate: nothing was measured" >&2
	exit 1
fi
if $update; then
	cp "$work/measured" "$figures"
	cat "$figures"
	exit
fi

awk '
	FNR == NR { committed[$1] = $2; next }
	{
		measured[$1] = 1
		if (!($1 in committed)) {
			printf "%-22s %9s %9d  new\n", $1, "-", $2
			stale = 1
			next
		}
		change = 100 * ($2 / committed[$1] - 1)
		note = change > 5 ? "GREW" : change < -5 ? "shrank" : ""
		printf "%-22s %9d %9d %+7.1f %%  %s\n", $1, committed[$1], $2, change, note
		if (change > 5) grew = 1
		if (change < -5) stale = 1
	}
	BEGIN { printf "%-22s %9s %9s\n", "instructions", "committed", "measured" }
	END {
		for (name in committed)
			if (!(name in measured)) {
				printf "%-22s %9d %9s  gone\n", name, committed[name], "-"
				grew = 1
			}
		if (grew) print "bench-gate: slower, or no longer measured; if that is worth it: tools/bench-gate.sh -update"
		else if (stale) print "bench-gate: keep what was won: tools/bench-gate.sh -update"
		exit grew
	}' "$figures" "$work/measured"

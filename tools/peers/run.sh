#!/usr/bin/env bash
# Runs tools/peers in a virtual machine with Debian's 6.1, counting instructions. Arguments go to
# peers: -list, -only clusterip, -json. As root on Debian, or with qemu installed already.
set -euo pipefail
cd "$(dirname "$0")/.."

./install-clang.sh
vm/setup.sh

# CLUSTERIP is set up with the legacy iptables, with the libraries of its own release.
tree=${XDG_CACHE_HOME:-$HOME/.cache}/lbctl-vm/iptables-legacy
if [[ ! -d $tree ]]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download \
		iptables libxtables12 libip4tc2 libip6tc2 libc6)
	for deb in "$work"/*.deb; do
		dpkg-deb -x "$deb" "$work/all"
	done
	# Debian moves libraries from /lib to /usr/lib package by package: find knows where.
	mkdir -p "$work/tree"
	(cd "$work/all" && find . \( -type f -o -type l \) \( \
		-path './usr/sbin/*tables-legacy*' -o -path './lib64/*' -o -path './usr/lib64/*' -o -name 'ld-linux-x86-64.so.2' \
		-o -name 'libc.so.6' -o -name 'libxtables.so.*' -o -name 'libip[46]tc.so.*' \
		-o -name 'libipt_CLUSTERIP.so' -o -name 'libxt_cluster.so' -o -name 'libxt_standard.so' -o -name 'libxt_udp.so' \
		\) -exec cp -a --parents -t ../tree {} +)
	mkdir -p "$(dirname "$tree")"
	mv -T "$work/tree" "$tree"
fi

mkdir -p ../.cache
CGO_ENABLED=0 go build -o ../.cache/peers ./peers
clang-19 -O2 -g -target bpf -mcpu=v3 -nostdinc -I../bpf/vendor -Wall -Wextra -Werror \
	-c peers/bpf/lru.bpf.c -o ../.cache/lru.o
modules=ip_tables,iptable_filter,iptable_mangle,ipt_CLUSTERIP,xt_cluster,xt_tcpudp,nf_conntrack,nf_tables,nft_hash,nft_ct,nft_nat,nft_chain_nat
modules+=,nft_flow_offload,nf_flow_table_inet,ip_vs,ip_vs_mh,dummy
go run ./vm -kernel 6.1 -icount -timeout 30m -module "$modules" -file "$tree:/" -file ../.cache/lru.o:/lru.o -- ../.cache/peers "$@"

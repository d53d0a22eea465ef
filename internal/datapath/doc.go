// Package datapath makes the kernel equal to a State: it loads the programs of bpf/, fills their
// maps and attaches them. It is the only package that knows the layout of a map.
//
// Everything is pinned below one directory of a BPF file system, so that traffic does not notice
// whether lbd runs:
//
//	DIR/maps/NAME          the maps, shared by every program that follows
//	DIR/links/IFACE-xdp    the attachments; replacing a program is one update of its link
//	DIR/links/IFACE-tcx-*
//
// A Datapath writes; a View reads the same pins, with or without lbd.
package datapath

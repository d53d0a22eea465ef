package datapath

// The enums and structs of bpf/include/abi.h that Go needs are named here; nothing is typed twice.
//go:generate go tool -modfile=../../tools/go.mod bpf2go -cc clang-19 -target bpfel -type limits -type reason -type verb -type bucket_layout -type hot_layout -type vip_flags -type vip -type service -type drop -type bucket_flags -type reverse_kinds -type lease_request -type lease_answer -type trace_flags -type method -type encap -type slot_layout -type slot_flags -type syn_care -type scheduler -type overflow -type noted_protocol -type noted_flags -type news_kind -type news_noted -type news_source -type returned_flags lb ../../bpf/lb.bpf.c -- -nostdinc -I../../bpf/vendor -I../../bpf/include -mcpu=v3 -Wall -Wextra -Werror

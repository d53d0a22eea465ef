package packettest

//go:generate go tool -modfile=../../tools/go.mod bpf2go -cc clang-19 -target bpfel generator ../../bpf/test/generator.bpf.c -- -nostdinc -I../../bpf/vendor -I../../bpf/include -mcpu=v3 -Wall -Wextra -Werror

package datapath

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// layoutLength is that of a fingerprint, in hexadecimal digits.
const layoutLength = 32

// layout fingerprints what the maps mean: the types of their keys and values, and the reasons. Two
// programs with the same layout can follow each other on the same maps.
func layout(spec *ebpf.CollectionSpec) string {
	hash := sha256.New()
	for _, name := range pinNames(spec) {
		m := spec.Maps[name]
		fmt.Fprintf(hash, "%s %v %d %d ", name, m.Type, m.KeySize, m.ValueSize)
		for _, t := range []btf.Type{m.Key, m.Value} {
			describe(hash, t)
		}
	}
	for _, r := range reasons {
		fmt.Fprintln(hash, r.Name)
	}
	return hex.EncodeToString(hash.Sum(nil))[:layoutLength]
}

// describe writes a type's structure: names and places of members, sizes of what they hold.
func describe(w io.Writer, t btf.Type) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			fmt.Fprintf(w, "{%s %d ", m.Name, m.Offset)
			describe(w, m.Type)
			fmt.Fprint(w, "}")
		}
	case *btf.Array:
		fmt.Fprintf(w, "[%d]", t.Nelems)
		describe(w, t.Type)
	case *btf.Datasec:
		for _, v := range t.Vars {
			fmt.Fprintf(w, "{%d ", v.Offset)
			describe(w, v.Type)
			fmt.Fprint(w, "}")
		}
	case *btf.Var:
		fmt.Fprintf(w, "%s ", t.Name)
		describe(w, t.Type)
	case *btf.Int:
		fmt.Fprintf(w, "int%d", t.Size)
	case nil:
		fmt.Fprint(w, "none")
	default:
		fmt.Fprintf(w, "%T", t)
	}
}

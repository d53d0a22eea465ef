package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is a kernel module as the guest loads it: a plain ELF object.
type module struct {
	name string // with underscores, as the kernel writes it
	data []byte
}

// loadOrder reads the named modules and all that they depend on, those first. It reads the
// dependencies from the modules themselves: modules.dep is not in the package, depmod makes it at
// installation.
func loadOrder(dir string, names []string) ([]module, error) {
	c := closure{paths: map[string]string{}, seen: map[string]bool{}}
	if err := c.index(dir); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := c.add(name); err != nil {
			return nil, err
		}
	}
	return c.order, nil
}

type closure struct {
	paths map[string]string // by name; empty for what is built into the kernel
	seen  map[string]bool
	order []module
}

func (c *closure) index(dir string) error {
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return err
	}
	for path := range strings.FieldsSeq(string(builtin)) {
		c.paths[moduleName(path)] = ""
	}
	return filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			c.paths[moduleName(path)] = path
		}
		return err
	})
}

func (c *closure) add(name string) error {
	name = moduleName(name)
	path, known := c.paths[name]
	if !known {
		return fmt.Errorf("module %s: this kernel has none of that name", name)
	}
	if path == "" || c.seen[name] {
		return nil
	}
	c.seen[name] = true
	data, err := readModule(path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	needs, wants, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	for _, want := range wants {
		if want, found := c.implementation(want); found {
			needs = append(needs, want)
		}
	}
	for _, need := range needs {
		if err := c.add(need); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	c.order = append(c.order, module{name: name, data: data})
	return nil
}

// moduleName turns kernel/net/sched/act-x.ko.xz into act_x.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule unpacks on the host: the guest has no xz, and not every kernel unpacks by itself.
func readModule(path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		data, err := output(exec.Command("xz", "-dc", path))
		return []byte(data), err
	default:
		return nil, fmt.Errorf("%s: unknown compression", path)
	}
}

// implementation finds what a soft dependency names: a module, or an algorithm such as crc32c, of
// which the portable module crc32c_generic does in every guest.
func (c *closure) implementation(name string) (string, bool) {
	for _, candidate := range []string{name, name + "_generic"} {
		if _, found := c.paths[moduleName(candidate)]; found {
			return candidate, true
		}
	}
	return "", false
}

// dependencies reads the fields depends=a,b and softdep=pre: c d of the section .modinfo. A module
// fails to load without the first, and may fail without the second.
func dependencies(data []byte) (needs, wants []string, err error) {
	object, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	section := object.Section(".modinfo")
	if section == nil {
		return nil, nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			needs = append(needs, strings.Split(list, ",")...)
		}
		if list, ok := strings.CutPrefix(field, "softdep=pre:"); ok {
			before, _, _ := strings.Cut(list, "post:")
			wants = append(wants, strings.Fields(before)...)
		}
	}
	return needs, wants, nil
}

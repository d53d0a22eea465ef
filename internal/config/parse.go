package config

import (
	"fmt"
	"os"
)

// Parse reads a file's text for this machine: cluster.node defaults to its host name. The error is
// Errors.
func Parse(file string, src []byte) (*Config, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, Errors{{File: file, Line: 1, Column: 1, Message: "find this machine's name: " + err.Error()}}
	}
	return ParseFor(host, file, src)
}

// ParseFor is Parse on a machine with that host name.
func ParseFor(host, file string, src []byte) (*Config, error) {
	r := &reader{file: file}
	root, ok := r.load(src)
	if !ok {
		return nil, r.failed(src)
	}
	c := r.config(root, host)
	if len(r.errs) > 0 {
		return nil, r.failed(src)
	}
	return c, nil
}

// failed is what was found, from top to bottom.
func (r *reader) failed(src []byte) Errors {
	errs := r.errs.sorted(src)
	if r.full() {
		last := *errs[len(errs)-1]
		last.Path, last.Hint, last.Excerpt = "", "", ""
		last.Message = fmt.Sprintf("these are the first %d errors that were found; there may be more", len(errs))
		errs = append(errs, &last)
	}
	return errs
}

func (r *reader) config(root value, host string) *Config {
	if r.isBackend(root) {
		return r.backend(root)
	}
	c := defaults()
	f, ok := r.fields(root, "role", "cluster", "interface", "attach", "shutdown", "drops", "vips", "services", "hooks", "masquerade")
	if !ok {
		return nil
	}
	r.word(f["role"], roleNode, roleNode, roleBackend)
	r.cluster(&c, at(f["cluster"], root), host)
	c.Attach = r.word(f["attach"], c.Attach, "auto", "native", "generic")
	c.Shutdown = Shutdown(r.word(f["shutdown"], string(c.Shutdown), string(Leave), string(Withdraw)))
	drops, _ := r.fields(f["drops"], "sample")
	c.SampleDrops = uint32(r.integer(drops["sample"], 0, maxSample, int(c.SampleDrops)))
	r.vips(&c, f["vips"], f["interface"])
	r.services(&c, f["services"])
	r.hooks(&c, f["hooks"])
	r.masquerades(&c, f["masquerade"])
	return &c
}

// Load reads and parses a file.
func Load(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, src)
}

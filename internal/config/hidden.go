package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
)

// HiddenSeed stands for the seed in a configuration that is shown. A client that knows the seed can
// choose which node its flows go to.
const HiddenSeed = "<hidden>"

// PublicYAML is YAML with HiddenSeed in place of the seed.
func (c *Config) PublicYAML() []byte {
	return bytes.ReplaceAll(c.YAML(), []byte(hex.EncodeToString(c.Seed[:])), []byte(HiddenSeed))
}

// ParseShown is Parse for a file that may be an edited PublicYAML of c: HiddenSeed is c's seed.
func (c *Config) ParseShown(name string, text []byte) (*Config, error) {
	// Something else stands in for it meanwhile, so that no error can quote the seed.
	var standIn [32]byte
	rand.Read(standIn[:])
	fresh, err := Parse(name, bytes.ReplaceAll(text, []byte(HiddenSeed), []byte(hex.EncodeToString(standIn[:]))))
	if err != nil {
		return nil, err
	}
	if fresh.Seed == standIn {
		fresh.Seed = c.Seed
	}
	return fresh, nil
}

package member

import (
	"encoding/json"
	"errors"
	"fmt"
)

// The kinds of messages between members; the first byte.
const (
	kindOwnership = 1 // of the ownership machine
	kindStore     = 2 // entries of the store
	kindFacts     = 3 // what a node tells about itself for people
	kindKeys      = 4 // of a rotation of the cluster's key
	kindEcho      = 5 // asks whether a peer hears us, or answers
	kindVotes     = 6 // what a director found out about backends
	kindNotes     = 7 // what a director remembers of flows
	kindAttempts  = 8 // what a director counted of connections to backends
	kindNoted     = 9 // the answer, and what a director wants to be told
)

// Facts are what a node tells about itself: for people, and what peers need to see whether they miss something.
type Facts struct {
	Version     string   `json:"version"`
	Connections int      `json:"connections"`     // TCP, to VIPs
	Held        int      `json:"held"`            // buckets of all tables
	Sick        []string `json:"sick"`            // services whose checks fail
	Voted       bool     `json:"voted,omitempty"` // it has votes about backends
	Digest      uint64   `json:"digest"`          // of the store
}

func frame(kind byte, payload []byte) []byte { return append([]byte{kind}, payload...) }

func encodeFacts(f Facts) ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode facts: %w", err)
	}
	return frame(kindFacts, body), nil
}

func unframe(message []byte) (kind byte, payload []byte, err error) {
	if len(message) == 0 {
		return 0, nil, errors.New("empty message")
	}
	return message[0], message[1:], nil
}

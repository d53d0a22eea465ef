//go:build race

package member_test

const slowed = true // by the race detector

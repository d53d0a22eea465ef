// Package packettest is the test kit of the datapath: it drives programs with distinct packets.
package packettest

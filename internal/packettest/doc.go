// Package packettest is the test kit of the datapath: it builds frames, layer by layer, and gives
// them to programs.
package packettest

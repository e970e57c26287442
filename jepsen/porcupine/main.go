// Decides with Porcupine whether the registers of a history are linearizable, independently of the
// checker in jepsen/src/checker/linearizable.rs.
//
//	porcupine history.jsonl
//
// Prints one JSON object: how many keys there are, and which of them are not linearizable.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A key that takes longer than this is reported as illegal.
const timeout = 2 * time.Minute

// A line holds one event, and one event one error message at most.
const lineBytesMax = 1 << 20

type event struct {
	Type    string            `json:"type"`
	F       string            `json:"f"`
	Value   []json.RawMessage `json:"value"`
	Process int64             `json:"process"`
	Time    int64             `json:"time"`
	Error   string            `json:"error"`
}

type input struct {
	isSwap   bool
	old, new uint64
}

type output struct {
	// A swap that was refused saw another value than the one that it compared with.
	isRefused bool
	isUnknown bool
	value     uint64
}

var model = porcupine.Model{
	Init: func() interface{} { return uint64(0) },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		value, asked, told := state.(uint64), in.(input), out.(output)
		switch {
		case !asked.isSwap:
			return told.value == value, value
		case told.isUnknown && value == asked.old:
			return true, asked.new
		case told.isUnknown:
			return true, value
		case told.isRefused:
			return value != asked.old, value
		default:
			return value == asked.old, asked.new
		}
	},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: porcupine history.jsonl")
		os.Exit(2)
	}
	keys, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	illegal := []uint64{}
	for key, operations := range keys {
		if porcupine.CheckOperationsTimeout(model, operations, timeout) != porcupine.Ok {
			illegal = append(illegal, key)
		}
	}
	sort.Slice(illegal, func(a, b int) bool { return illegal[a] < illegal[b] })
	result := map[string]interface{}{
		"keys":    len(keys),
		"illegal": illegal,
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}

func read(path string) (map[uint64][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	keys := map[uint64][]porcupine.Operation{}
	open := map[int64]event{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var now event
		if err := json.Unmarshal(lines.Bytes(), &now); err != nil {
			return nil, err
		}
		if now.Type == "invoke" {
			open[now.Process] = now
			continue
		}
		asked, isOpen := open[now.Process]
		if !isOpen {
			return nil, fmt.Errorf("process %d is answered and asked nothing", now.Process)
		}
		delete(open, now.Process)
		key, operation, counts, err := pair(asked, now)
		if err != nil {
			return nil, err
		}
		if _, isKnown := keys[key]; !isKnown {
			keys[key] = nil
		}
		if counts {
			keys[key] = append(keys[key], operation)
		}
	}
	return keys, lines.Err()
}

// pair makes one operation of a question and its answer; false if it tells nothing.
func pair(asked, told event) (uint64, porcupine.Operation, bool, error) {
	var key uint64
	operation := porcupine.Operation{ClientId: 0, Call: asked.Time, Return: told.Time}
	if len(asked.Value) != 2 || len(told.Value) != 2 {
		return 0, operation, false, fmt.Errorf("an event without key and value: %v", asked)
	}
	if err := json.Unmarshal(asked.Value[0], &key); err != nil {
		return 0, operation, false, err
	}
	if asked.F == "read" {
		if told.Type != "ok" {
			return key, operation, false, nil
		}
		var value uint64
		err := json.Unmarshal(told.Value[1], &value)
		operation.Input, operation.Output = input{}, output{value: value}
		return key, operation, true, err
	}
	var swap [2]uint64
	if err := json.Unmarshal(asked.Value[1], &swap); err != nil {
		return 0, operation, false, err
	}
	operation.Input = input{isSwap: true, old: swap[0], new: swap[1]}
	switch told.Type {
	case "ok":
		operation.Output = output{}
	case "info":
		operation.Output = output{isUnknown: true}
		operation.Return = math.MaxInt64
	default:
		// Only a comparison that was made tells anything; its words begin with the gRPC code.
		operation.Output = output{isRefused: true}
		return key, operation, strings.HasPrefix(told.Error, "Aborted"), nil
	}
	return key, operation, true, nil
}

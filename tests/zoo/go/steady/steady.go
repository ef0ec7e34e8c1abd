// Package steady is what applications that produce and consume until their standard input ends share; see "Steady clients" in
// tests/zoo/README.md.
package steady

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	Pause      = 20 * time.Millisecond
	Members    = 2
	endSeconds = 60
)

var (
	Bootstrap  []string
	Topic      string
	Partitions int32

	began   = time.Now()
	lock    sync.Mutex
	file    *os.File
	history *bufio.Writer
	errors  []string
	count   int

	acknowledgedAt = map[int32]int64{}
	readTo         = map[int32]int64{}
	acknowledged   int64
	consumed       int64
	longestPause   int64
)

// Clock is in microseconds.
func Clock() int64 { return time.Since(began).Microseconds() }

// Record is one that was read.
type Record struct {
	Partition int32
	Offset    int64
	Value     []byte
}

func write(format string, arguments ...any) { fmt.Fprintf(history, format+"\n", arguments...) }

// Error is one that the application was told of.
func Error(where string, err error) {
	lock.Lock()
	defer lock.Unlock()
	count++
	if len(errors) < 20 {
		errors = append(errors, where+": "+err.Error())
	}
}

// Payload is the value of record number n.
func Payload(n int64) []byte {
	return []byte(strconv.FormatInt(n, 10) + ":" + strings.Repeat("x", int(n%200)))
}

// Number is that of a payload.
func Number(payload []byte) int64 {
	digits, _, _ := strings.Cut(string(payload), ":")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		Error("a record of somebody else", err)
	}
	return n
}

// Sent notes what became of a record.
func Sent(partition int32, value, from, offset int64, err error) {
	if err != nil {
		Error("produce", err)
	}
	lock.Lock()
	defer lock.Unlock()
	to, result, at := Clock(), "ok", strconv.FormatInt(offset, 10)
	if err != nil {
		result, at = "info", "null"
	} else {
		if last, ok := acknowledgedAt[partition]; ok {
			longestPause = max(longestPause, to-last)
		}
		acknowledgedAt[partition] = to
		acknowledged++
	}
	write(`{"op":"send","result":"%s","client":"p.%d","from":%d,"to":%d,"idempotent":true,"items":[["%s-%d",%s,%d]]}`,
		result, partition, from, to, Topic, partition, at, value)
}

// Read notes the records of one poll and one partition; fresh: the first since the partition was assigned.
func Read(member int, from int64, fresh bool, records []Record) {
	if len(records) == 0 {
		return
	}
	lock.Lock()
	defer lock.Unlock()
	partition, reset := records[0].Partition, ""
	if fresh {
		reset = `,"reset":true`
	}
	var items []string
	for _, r := range records {
		digits, _, _ := strings.Cut(string(r.Value), ":")
		items = append(items, fmt.Sprintf(`["%s-%d",%d,%s]`, Topic, partition, r.Offset, digits))
		readTo[partition] = max(readTo[partition], r.Offset+1)
	}
	consumed += int64(len(records))
	write(`{"op":"poll","result":"ok","client":"m%d.%d","from":%d,"to":%d%s,"items":[%s]}`, member, partition, from, Clock(), reset,
		strings.Join(items, ","))
}

func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return ""
}

func ready() bool {
	lock.Lock()
	defer lock.Unlock()
	return len(acknowledgedAt) == int(Partitions) && len(readTo) == int(Partitions)
}

func reached(ends map[int32]int64) bool {
	lock.Lock()
	defer lock.Unlock()
	for p, end := range ends {
		if readTo[p] < end {
			return false
		}
	}
	return true
}

// Main runs produce until the standard input ends, and members until they have read everything.
func Main(client, module string, produce func(stop <-chan struct{}), member func(number int, stop <-chan struct{}),
	ends func() (map[int32]int64, error)) {
	Bootstrap, Topic = strings.Split(os.Args[1], ","), os.Args[2]
	partitions, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	Partitions = int32(partitions)
	if file, err = os.Create(os.Args[4]); err != nil {
		panic(err)
	}
	history = bufio.NewWriter(file)
	write(`{"history":1}`)
	stopSending, stopReading := make(chan struct{}), make(chan struct{})
	var senders, readers sync.WaitGroup
	senders.Go(func() { produce(stopSending) })
	for i := range Members {
		readers.Go(func() { member(i, stopReading) })
	}
	for !ready() {
		time.Sleep(Pause)
	}
	fmt.Println(`{"ready":true}`)
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(stopSending)
	senders.Wait()
	if found, err := ends(); err != nil {
		Error("at the end", err)
	} else {
		deadline := time.Now().Add(endSeconds * time.Second)
		for !reached(found) && time.Now().Before(deadline) {
			time.Sleep(Pause)
		}
		if reached(found) {
			lock.Lock()
			write(`{"final_reads":true}`)
			lock.Unlock()
		} else {
			Error("at the end", fmt.Errorf("read to %v of %v", readTo, found))
		}
	}
	close(stopReading)
	readers.Wait()
	lock.Lock()
	defer lock.Unlock()
	if err := history.Flush(); err != nil {
		panic(err)
	}
	file.Close()
	line, _ := json.Marshal(map[string]any{"client": client, "version": version(module), "acknowledged": acknowledged,
		"consumed": consumed, "longest_pause_ms": longestPause / 1000, "errors": errors, "error_count": count})
	fmt.Println(string(line))
	if count > 0 {
		os.Exit(1)
	}
}

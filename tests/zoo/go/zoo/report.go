// Package zoo is what the Go programs of the client zoo share: the reporting of checks, test data and waiting.
package zoo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	GroupRecords    = 400
	GroupPartitions = 8
	VictimRecords   = 10
	BaseTime        = int64(1_600_000_000_000)
)

var (
	Bootstrap string
	client    string
	version   string
	runID     string
	only      map[string]bool
	printing  sync.Mutex
)

// Check is a named check; the string it returns is a remark, not a verdict.
type Check struct {
	Name string
	Run  func() (string, error)
}

// NotOffered says that a client lacks a feature, and why.
type NotOffered string

func (n NotOffered) Error() string { return string(n) }

// Start reads the command line. It returns the topic and group of a victim, if this process is to be one.
func Start(name, module string) (victim []string) {
	client = name
	flag.StringVar(&Bootstrap, "bootstrap", "", "host:port of the broker")
	flag.StringVar(&runID, "run-id", "", "part of every topic and group name")
	names := flag.String("only", "", "comma separated check names")
	asVictim := flag.Bool("victim", false, "be a group member that dies: TOPIC GROUP")
	flag.Parse()
	only = map[string]bool{}
	for _, check := range strings.Split(*names, ",") {
		if check != "" {
			only[check] = true
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				version = strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	if *asVictim {
		return flag.Args()
	}
	return nil
}

// Name makes a topic or group name of this run.
func Name(what string) string { return fmt.Sprintf("zoo-%s-%s-%s", client, runID, what) }

// Run runs checks one after the other.
func Run(checks ...Check) {
	for _, check := range checks {
		run(check)
	}
}

// RunTogether runs checks that mostly wait side by side.
func RunTogether(checks ...Check) {
	var all sync.WaitGroup
	for _, check := range checks {
		all.Add(1)
		go func() {
			defer all.Done()
			run(check)
		}()
	}
	all.Wait()
}

func run(check Check) {
	if len(only) > 0 && !only[check.Name] {
		return
	}
	start := time.Now()
	result, detail := "ok", ""
	func() {
		defer func() {
			if p := recover(); p != nil {
				result, detail = "fail", fmt.Sprint("panic: ", p)
			}
		}()
		remark, err := check.Run()
		detail = remark
		if reason, ok := err.(NotOffered); ok {
			result, detail = "n/a", string(reason)
		} else if err != nil {
			result, detail = "fail", err.Error()
		}
	}()
	line, _ := json.Marshal(map[string]any{"client": client, "version": version, "check": check.Name,
		"result": result, "detail": detail, "ms": time.Since(start).Milliseconds()})
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(string(line))
}

// Payloads are values of many sizes; every other one does not compress.
func Payloads() [][]byte {
	var values [][]byte
	for i, size := range []int{0, 1, 7, 256, 1000, 1000, 10_000, 10_000, 100_000, 100_000} {
		value := make([]byte, size)
		state := uint64(12345 + i)
		for j := range value {
			if i%2 == 0 {
				value[j] = "millrace "[j%9]
			} else {
				state = state*6364136223846793005 + 1442695040888963407
				value[j] = byte(state >> 33)
			}
		}
		values = append(values, value)
	}
	return values
}

// SameValues compares what came back with what was sent.
func SameValues(got, want [][]byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, expected %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
			return fmt.Errorf("value %d differs: %.40q, expected %.40q", i, got[i], want[i])
		}
	}
	return nil
}

// Numbers are the values "0" to "n-1".
func Numbers(n int) [][]byte {
	values := make([][]byte, n)
	for i := range values {
		values[i] = []byte(strconv.Itoa(i))
	}
	return values
}

// Expect returns an error that shows both values when they print differently.
func Expect(got, want any, what string) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s: got %v, expected %v", what, got, want)
	}
	return nil
}

// First returns the first error of several.
func First(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// WaitUntil polls a condition.
func WaitUntil(what string, limit time.Duration, condition func() bool) error {
	for end := time.Now().Add(limit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("after %v still not: %s", limit, what)
		}
	}
	return nil
}

// Seen holds the records that a group's members have processed and committed, and who holds how many partitions.
type Seen struct {
	lock   sync.Mutex
	values map[string]int
	held   map[string]int
	errs   []error
	dying  bool
}

func NewSeen() *Seen { return &Seen{values: map[string]int{}, held: map[string]int{}} }

func (s *Seen) Add(value string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.values[value]++
}

// Hold notes how many partitions a member holds now.
func (s *Seen) Hold(member string, partitions int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.held[member] = partitions
}

func (s *Seen) Held(member string) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.held[member]
}

func (s *Seen) Fail(err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.errs = append(s.errs, err)
}

func (s *Seen) balanced(members int) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	sum := 0
	for _, partitions := range s.held {
		if partitions == 0 {
			return false
		}
		sum += partitions
	}
	return len(s.held) == members && sum == GroupPartitions
}

func (s *Seen) count() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.values)
}

// judge says whether every record was seen exactly once.
func (s *Seen) judge(members int) (string, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.errs) > 0 {
		return "", s.errs[0]
	}
	for value, times := range s.values {
		if times != 1 {
			return "", fmt.Errorf("record %s seen %d times", value, times)
		}
	}
	if len(s.values) != GroupRecords {
		return "", fmt.Errorf("%d records seen, expected %d", len(s.values), GroupRecords)
	}
	if members == 1 {
		return fmt.Sprintf("%d records", GroupRecords), nil
	}
	if !s.dying {
		return "", fmt.Errorf("the victim did not die by itself")
	}
	return fmt.Sprintf("%d records, %d by the member that was killed", GroupRecords, VictimRecords), nil
}

// Group runs a group of several members, one of them a process that kills itself while it holds uncommitted
// records. member runs until stop is closed; produce sends the values "0" to "399" to all partitions in turn.
func Group(members int, topic, group string, member func(name string, seen *Seen, stop chan struct{}) error,
	produce func() error) (string, error) {
	seen, stop := NewSeen(), make(chan struct{})
	survivors := members - 1
	if members == 1 {
		survivors = 1
	} else {
		kill, err := startVictim(topic, group, seen)
		if err != nil {
			return "", err
		}
		defer kill()
	}
	var running sync.WaitGroup
	for i := range survivors {
		running.Add(1)
		go func() {
			defer running.Done()
			if err := member(fmt.Sprint("m", i), seen, stop); err != nil {
				seen.Fail(err)
			}
		}()
	}
	err := WaitUntil("every member holds partitions", 20*time.Second, func() bool { return seen.balanced(members) })
	if err == nil {
		err = produce()
	}
	if err == nil {
		err = WaitUntil("all records seen", 40*time.Second, func() bool { return seen.count() == GroupRecords })
	}
	close(stop)
	running.Wait()
	if err != nil {
		return "", First(append(seen.errs, err)...)
	}
	return seen.judge(members)
}

// startVictim starts this program as a member in a process of its own. It says "assigned N", "seen VALUE", "dying".
func startVictim(topic, group string, seen *Seen) (kill func(), err error) {
	command := exec.Command(os.Args[0], "-bootstrap", Bootstrap, "-run-id", runID, "-victim", topic, group)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "assigned":
				partitions, _ := strconv.Atoi(rest)
				seen.Hold("victim", partitions)
			case "seen":
				seen.Add(rest)
			case "dying":
				seen.lock.Lock()
				seen.dying = true
				seen.lock.Unlock()
			}
		}
	}()
	return func() {
		_ = command.Process.Kill()
		<-heard
		_ = command.Wait()
	}, nil
}

// Die ends this process as kill -9 does.
func Die() {
	fmt.Println("dying")
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

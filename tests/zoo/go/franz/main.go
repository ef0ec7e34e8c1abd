// franz-go against a broker.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/zoo/go/zoo"
)

var admin *kadm.Client

func within(seconds int) context.Context {
	limited, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	context.AfterFunc(limited, cancel)
	return limited
}

func open(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(zoo.Bootstrap), kgo.ProducerBatchMaxBytes(900_000),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond)}, options...)...)
	if err != nil {
		panic(err)
	}
	return client
}

func create(what string, partitions int32, configs ...string) (string, error) {
	topic, settings := zoo.Name(what), map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		settings[configs[i]] = &configs[i+1]
	}
	response, err := admin.CreateTopic(within(20), partitions, -1, settings, topic)
	if err := zoo.First(err, response.Err); err != nil {
		return topic, err
	}
	return topic, there(topic, partitions)
}

// there waits for a new topic: a broker may answer before its metadata holds it.
func there(topic string, partitions int32) error {
	return zoo.WaitUntil("the new topic in the metadata", 10*time.Second, func() bool {
		return partitionsOf(topic) == int(partitions)
	})
}

func partitionsOf(topic string) int {
	topics, err := admin.ListTopics(within(10))
	if err != nil || !topics.Has(topic) {
		return 0
	}
	return len(topics[topic].Partitions)
}

func send(topic string, records []*kgo.Record, options ...kgo.Opt) error {
	client := open(append(options, kgo.DefaultProduceTopic(topic))...)
	defer client.Close()
	return client.ProduceSync(within(30), records...).FirstErr()
}

func records(values [][]byte) (made []*kgo.Record) {
	for _, value := range values {
		made = append(made, &kgo.Record{Value: value})
	}
	return made
}

func values(records []*kgo.Record) (found [][]byte) {
	for _, record := range records {
		found = append(found, record.Value)
	}
	return found
}

// poll returns the next count records, or fewer when the time is over.
func poll(client *kgo.Client, count, seconds int) (got []*kgo.Record, err error) {
	for limit := within(seconds); len(got) < count; {
		fetches := client.PollRecords(limit, count-len(got))
		if limit.Err() != nil {
			return got, nil
		}
		if err := fetches.Err(); err != nil {
			return got, err
		}
		got = append(got, fetches.Records()...)
		client.AllowRebalance()
	}
	return got, nil
}

func read(topic string, count int, start kgo.Offset) ([]*kgo.Record, error) {
	client := open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: start}}))
	defer client.Close()
	return poll(client, count, 20)
}

func createTopic() (string, error) {
	topic, err := create("create", 3)
	return "", zoo.First(err, zoo.WaitUntil("three partitions", 10*time.Second, func() bool { return partitionsOf(topic) == 3 }))
}

func produce(codec string, compression kgo.CompressionCodec) zoo.Check {
	return zoo.Check{Name: "produce_" + codec, Run: func() (string, error) {
		topic, err := create("codec-"+codec, 1)
		if err != nil {
			return "", err
		}
		payloads := zoo.Payloads()
		if err := send(topic, records(payloads), kgo.ProducerBatchCompression(compression)); err != nil {
			return "", err
		}
		got, err := read(topic, len(payloads), kgo.NewOffset().AtStart())
		return "", zoo.First(err, zoo.SameValues(values(got), payloads))
	}}
}

func recordFields() (string, error) {
	topic, err := create("fields", 1)
	if err != nil {
		return "", err
	}
	headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte{0, 255}},
		{Key: "a", Value: []byte("2")}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
	var sent []*kgo.Record
	for i := range int64(5) {
		sent = append(sent, &kgo.Record{Key: []byte(fmt.Sprintf("k\x00%d", i)), Value: []byte("v"), Headers: headers,
			Timestamp: time.UnixMilli(zoo.BaseTime + i)})
	}
	sent = append(sent, &kgo.Record{Value: []byte("no key")})
	if err := send(topic, sent); err != nil {
		return "", err
	}
	got, err := read(topic, 6, kgo.NewOffset().AtStart())
	if err != nil || len(got) != 6 {
		return "", zoo.First(err, fmt.Errorf("%d records", len(got)))
	}
	for i, record := range got[:5] {
		err = zoo.First(err, zoo.Expect(string(record.Key), fmt.Sprintf("k\x00%d", i), "key"),
			zoo.Expect(record.Headers, headers, "headers"),
			zoo.Expect(record.Timestamp.UnixMilli(), zoo.BaseTime+int64(i), "timestamp"))
	}
	return "", zoo.First(err, zoo.Expect(got[5].Key == nil, true, "key is null"), zoo.Expect(len(got[5].Headers), 0, "headers"))
}

func nullValue() (string, error) {
	topic, err := create("null", 1)
	if err != nil {
		return "", err
	}
	sent := [][]byte{nil, {}}
	if err := send(topic, records(sent)); err != nil {
		return "", err
	}
	got, err := read(topic, 2, kgo.NewOffset().AtStart())
	return "", zoo.First(err, zoo.SameValues(values(got), sent))
}

// idempotent sends 5000 records, window of them at a time. The client itself keeps up to five requests of an
// idempotent producer in flight and offers no other number.
func idempotent(name string, window int) zoo.Check {
	return zoo.Check{Name: name, Run: func() (string, error) {
		topic, err := create(strings.ReplaceAll(name, "_", "-"), 1)
		if err != nil {
			return "", err
		}
		client := open(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(1000))
		defer client.Close()
		sent := zoo.Numbers(5000)
		for from := 0; from < len(sent); from += window {
			if err := client.ProduceSync(within(30), records(sent[from:from+window])...).FirstErr(); err != nil {
				return "", err
			}
		}
		got, err := read(topic, len(sent), kgo.NewOffset().AtStart())
		ends, endsErr := admin.ListEndOffsets(within(10), topic)
		return "", zoo.First(err, endsErr, zoo.SameValues(values(got), sent),
			zoo.Expect(ends[topic][0].Offset, len(sent), "end offset"))
	}}
}

// numberedTopic has forty records, one second apart.
func numberedTopic(what string) (string, error) {
	topic, err := create(what, 1)
	if err != nil {
		return topic, err
	}
	sent := records(zoo.Numbers(40))
	for i, record := range sent {
		record.Timestamp = time.UnixMilli(zoo.BaseTime + int64(i)*1000)
	}
	return topic, send(topic, sent)
}

func consumeStart() (string, error) {
	topic, err := numberedTopic("start")
	if err != nil {
		return "", err
	}
	client := open(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	got, err := poll(client, 40, 20)
	return "", zoo.First(err, zoo.SameValues(values(got), zoo.Numbers(40)))
}

func consumeOffset() (string, error) {
	topic, err := numberedTopic("offset")
	if err != nil {
		return "", err
	}
	got, err := read(topic, 1, kgo.NewOffset().At(17))
	return "", zoo.First(err, zoo.SameValues(values(got), [][]byte{[]byte("17")}))
}

func consumeTimestamp() (string, error) {
	topic, err := numberedTopic("timestamp")
	if err != nil {
		return "", err
	}
	found, err := admin.ListOffsetsAfterMilli(within(10), zoo.BaseTime+22_500, topic)
	if err != nil {
		return "", err
	}
	got, err := read(topic, 1, kgo.NewOffset().AfterMilli(zoo.BaseTime+22_500))
	return "", zoo.First(err, zoo.Expect(found[topic][0].Offset, 23, "offset of the first record after 22.5 s"),
		zoo.SameValues(values(got), [][]byte{[]byte("23")}))
}

// groupClient joins a group; hold hears how many partitions it has, after each change.
func groupClient(topic, group string, hold func(int), options ...kgo.Opt) *kgo.Client {
	held := 0
	change := func(sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			for _, changed := range parts {
				held += sign * len(changed)
			}
			hold(held)
		}
	}
	return open(append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.OnPartitionsLost(change(-1))},
		options...)...)
}

func commitEach(client *kgo.Client, limit context.Context, seen func(string)) error {
	fetches := client.PollRecords(limit, 1)
	defer client.AllowRebalance()
	if err := fetches.Err(); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
	for _, record := range fetches.Records() {
		if err := client.CommitRecords(within(10), record); err != nil {
			return err
		}
		seen(string(record.Value))
	}
	return nil
}

func group(members int) zoo.Check {
	return zoo.Check{Name: fmt.Sprint("group_", members), Run: func() (string, error) {
		name := zoo.Name(fmt.Sprint("group-", members))
		topic, err := create(fmt.Sprint("group-", members), zoo.GroupPartitions)
		if err != nil {
			return "", err
		}
		member := func(self string, seen *zoo.Seen, stop chan struct{}) error {
			client := groupClient(topic, name, func(held int) { seen.Hold(self, held) })
			defer client.Close()
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				limit, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				err := commitEach(client, limit, seen.Add)
				cancel()
				if err != nil {
					return err
				}
			}
		}
		remark, err := zoo.Group(members, topic, name, member, func() error {
			sent := records(zoo.Numbers(zoo.GroupRecords))
			for i, record := range sent {
				record.Partition = int32(i % zoo.GroupPartitions)
			}
			return send(topic, sent)
		})
		if err != nil {
			return "", err
		}
		offsets, err := admin.FetchOffsets(within(10), name)
		for partition := range int32(zoo.GroupPartitions) {
			err = zoo.First(err, zoo.Expect(offsets[topic][partition].At, zoo.GroupRecords/zoo.GroupPartitions, "committed offset"))
		}
		return remark, err
	}}
}

func victim(topic, group string) {
	client := groupClient(topic, group, func(held int) { fmt.Println("assigned", held) })
	for committed := 0; ; {
		if committed == zoo.VictimRecords {
			if got, _ := poll(client, 1, 60); len(got) == 1 {
				zoo.Die()
			}
		}
		err := commitEach(client, within(60), func(value string) {
			committed++
			fmt.Println("seen", value)
		})
		if err != nil {
			panic(err)
		}
	}
}

func staticMember() (string, error) {
	name := zoo.Name("static")
	topic, err := create("static", 4)
	if err != nil {
		return "", err
	}
	stop, seen := make(chan struct{}), zoo.NewSeen()
	rebalances := 0
	start := func(instance string) *kgo.Client {
		client := groupClient(topic, name, func(held int) {
			if instance == "a" {
				rebalances++
			}
			seen.Hold(instance, held)
		}, kgo.InstanceID(instance), kgo.SessionTimeout(20*time.Second))
		go func() {
			for {
				fetches := client.PollRecords(context.Background(), 1)
				client.AllowRebalance()
				if fetches.IsClientClosed() {
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		return client
	}
	members := func() map[string]string {
		ids := map[string]string{}
		if groups, err := admin.DescribeGroups(within(10), name); err == nil {
			for _, member := range groups[name].Members {
				assigned, _ := member.Assigned.AsConsumer()
				ids[*member.InstanceID] = fmt.Sprint(member.MemberID, assigned.Topics)
				ids[*member.InstanceID+" partitions"] = fmt.Sprint(assigned.Topics)
			}
		}
		return ids
	}
	a, b := start("a"), start("b")
	defer a.Close()
	if err := zoo.WaitUntil("two partitions each", 20*time.Second, func() bool { return seen.Held("a") == 2 && seen.Held("b") == 2 }); err != nil {
		b.Close()
		return "", err
	}
	before, ids := rebalances, members()
	b.Close()
	seen.Hold("b", 0)
	b = start("b")
	defer b.Close()
	if err := zoo.WaitUntil("partitions for the restarted member", 10*time.Second, func() bool { return seen.Held("b") == 2 }); err != nil {
		return "", err
	}
	time.Sleep(1500 * time.Millisecond)
	after := members()
	close(stop)
	return "", zoo.First(zoo.Expect(rebalances, before, "changes of the other member"),
		zoo.Expect(after["a"], ids["a"], "the other member"),
		zoo.Expect(after["b partitions"], ids["b partitions"], "partitions of the restarted member"),
		zoo.Expect(after["b"] == ids["b"], false, "member id unchanged"))
}

func commitResume() (string, error) {
	topic, err := numberedTopic("resume")
	if err != nil {
		return "", err
	}
	first := groupClient(topic, zoo.Name("resume"), func(int) {})
	got, err := poll(first, 15, 20)
	if err == nil {
		err = first.CommitRecords(within(10), got...)
	}
	first.AllowRebalance()
	first.Close()
	if err != nil {
		return "", err
	}
	second := groupClient(topic, zoo.Name("resume"), func(int) {})
	defer second.Close()
	got, err = poll(second, 25, 20)
	return "", zoo.First(err, zoo.SameValues(values(got), zoo.Numbers(40)[15:]))
}

func configOf(topic, key string) string {
	configs, err := admin.DescribeTopicConfigs(within(10), topic)
	if err != nil {
		return err.Error()
	}
	for _, config := range configs[0].Configs {
		if config.Key == key {
			return config.MaybeValue()
		}
	}
	return "absent"
}

func describeConfigs() (string, error) {
	topic, err := create("configs", 1, "retention.ms", "1234567")
	return "", zoo.First(err, zoo.Expect(configOf(topic, "retention.ms"), "1234567", "retention.ms"),
		zoo.Expect(configOf(topic, "cleanup.policy"), "delete", "cleanup.policy"))
}

func alterConfigs() (string, error) {
	topic, err := create("alter", 1, "retention.ms", "1234567")
	if err != nil {
		return "", err
	}
	alter := func(change kadm.AlterConfig) error {
		responses, err := admin.AlterTopicConfigs(within(10), []kadm.AlterConfig{change}, topic)
		if err != nil {
			return err
		}
		return responses[0].Err
	}
	becomes := func(key string, good func(string) bool) error {
		return zoo.WaitUntil("a changed "+key, 10*time.Second, func() bool { return good(configOf(topic, key)) })
	}
	value := "2097152"
	return "", zoo.First(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.bytes", Value: &value}),
		becomes("segment.bytes", func(v string) bool { return v == value }),
		zoo.Expect(configOf(topic, "retention.ms"), "1234567", "retention.ms"),
		alter(kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}),
		becomes("retention.ms", func(v string) bool { return v != "1234567" && v != "absent" }))
}

func committedGroup(what string) (topic, group string, client *kgo.Client, err error) {
	group = zoo.Name(what)
	if topic, err = numberedTopic(what); err != nil {
		return
	}
	client = groupClient(topic, group, func(int) {})
	got, err := poll(client, 10, 20)
	if err == nil {
		err = client.CommitRecords(within(10), got...)
	}
	client.AllowRebalance()
	return
}

func listGroups() (string, error) {
	_, group, client, err := committedGroup("list-groups")
	if err != nil {
		return "", err
	}
	defer client.Close()
	groups, err := admin.ListGroups(within(10))
	if _, found := groups[group]; !found {
		return "", zoo.First(err, errors.New("the group is not listed"))
	}
	return "state " + groups[group].State, err
}

func describeGroup() (string, error) {
	topic, group, client, err := committedGroup("describe-group")
	if err != nil {
		return "", err
	}
	groups, err := admin.DescribeGroups(within(10), group)
	client.Close()
	if err != nil {
		return "", err
	}
	described := groups[group]
	if described.State != "Stable" || len(described.Members) != 1 || !described.AssignedPartitions().Lookup(topic, 0) {
		return "", fmt.Errorf("unexpected: %+v", described)
	}
	return "", zoo.WaitUntil("an empty group", 10*time.Second, func() bool {
		groups, err := admin.DescribeGroups(within(10), group)
		return err == nil && groups[group].State == "Empty"
	})
}

func listOffsets() (string, error) {
	topic, group, client, err := committedGroup("list-offsets")
	if err != nil {
		return "", err
	}
	client.Close()
	starts, err1 := admin.ListStartOffsets(within(10), topic)
	ends, err2 := admin.ListEndOffsets(within(10), topic)
	committed, err3 := admin.FetchOffsets(within(10), group)
	return "", zoo.First(err1, err2, err3, zoo.Expect(starts[topic][0].Offset, 0, "earliest offset"),
		zoo.Expect(ends[topic][0].Offset, 40, "latest offset"), zoo.Expect(committed[topic][0].At, 10, "committed offset"))
}

func deleteRecords() (string, error) {
	topic, err := numberedTopic("delete-records")
	if err != nil {
		return "", err
	}
	below := kadm.Offsets{}
	below.AddOffset(topic, 0, 25, -1)
	deleted, err := admin.DeleteRecords(within(10), below)
	if err != nil {
		return "", err
	}
	starts, err := admin.ListStartOffsets(within(10), topic)
	got, readErr := read(topic, 1, kgo.NewOffset().AtStart())
	return "", zoo.First(deleted.Error(), err, readErr, zoo.Expect(deleted[topic][0].LowWatermark, 25, "low watermark"),
		zoo.Expect(starts[topic][0].Offset, 25, "earliest offset"), zoo.SameValues(values(got), [][]byte{[]byte("25")}))
}

func deleteTopic() (string, error) {
	topic, err := create("delete", 1)
	if err != nil {
		return "", err
	}
	response, err := admin.DeleteTopic(within(10), topic)
	return "", zoo.First(err, response.Err,
		zoo.WaitUntil("the topic gone", 10*time.Second, func() bool { return partitionsOf(topic) == 0 }))
}

func refused(err error, wanted *kerr.Error) (string, error) {
	if !errors.Is(err, wanted) {
		return "", fmt.Errorf("got %v, expected %v", err, wanted)
	}
	return err.Error(), nil
}

func errorTooLarge() (string, error) {
	topic, err := create("large", 1, "max.message.bytes", "20000")
	if err != nil {
		return "", err
	}
	big := zoo.Payloads()[9]
	remark, err := refused(send(topic, records([][]byte{big}), kgo.ProducerBatchCompression(kgo.NoCompression())), kerr.MessageTooLarge)
	return remark, zoo.First(err, send(topic, records(zoo.Numbers(1))))
}

func errorUnknownTopic() (string, error) {
	response, err := admin.DeleteTopic(within(10), zoo.Name("nowhere"))
	return refused(zoo.First(err, response.Err), kerr.UnknownTopicOrPartition)
}

func errorBadTopicName() (string, error) {
	_, err := create("bad/name!", 1)
	return refused(err, kerr.InvalidTopicException)
}

func main() {
	if arguments := zoo.Start("franz-go", "github.com/twmb/franz-go"); arguments != nil {
		victim(arguments[0], arguments[1])
	}
	admin = kadm.NewClient(open())
	defer admin.Close()
	zoo.Run(zoo.Check{Name: "create_topic", Run: createTopic},
		produce("none", kgo.NoCompression()), produce("gzip", kgo.GzipCompression()),
		produce("snappy", kgo.SnappyCompression()), produce("lz4", kgo.Lz4Compression()),
		produce("zstd", kgo.ZstdCompression()),
		zoo.Check{Name: "record_fields", Run: recordFields}, zoo.Check{Name: "null_value", Run: nullValue},
		idempotent("idempotent", 25), idempotent("idempotent_in_flight", 5000),
		zoo.Check{Name: "consume_start", Run: consumeStart}, zoo.Check{Name: "consume_offset", Run: consumeOffset},
		zoo.Check{Name: "consume_timestamp", Run: consumeTimestamp}, zoo.Check{Name: "commit_resume", Run: commitResume},
		zoo.Check{Name: "describe_configs", Run: describeConfigs}, zoo.Check{Name: "alter_configs", Run: alterConfigs},
		zoo.Check{Name: "list_groups", Run: listGroups}, zoo.Check{Name: "describe_group", Run: describeGroup},
		zoo.Check{Name: "list_offsets", Run: listOffsets}, zoo.Check{Name: "delete_records", Run: deleteRecords},
		zoo.Check{Name: "delete_topic", Run: deleteTopic}, zoo.Check{Name: "error_too_large", Run: errorTooLarge},
		zoo.Check{Name: "error_unknown_topic", Run: errorUnknownTopic},
		zoo.Check{Name: "error_bad_topic_name", Run: errorBadTopicName})
	zoo.RunTogether(group(1), group(2), group(3), group(4), zoo.Check{Name: "static_member", Run: staticMember})
}

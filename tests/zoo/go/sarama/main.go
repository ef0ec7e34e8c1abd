// sarama against a broker.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"millrace/tests/zoo/go/zoo"
)

var (
	admin  sarama.ClusterAdmin
	client sarama.Client
)

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 50 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func create(what string, partitions int32, configs ...string) (string, error) {
	topic, settings := zoo.Name(what), map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		settings[configs[i]] = &configs[i+1]
	}
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: -1,
		ConfigEntries: settings}, false); err != nil {
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
	topics, err := admin.DescribeTopics([]string{topic})
	if err != nil || len(topics) != 1 || topics[0].Err != sarama.ErrNoError {
		return 0
	}
	return len(topics[0].Partitions)
}

func send(topic string, messages []*sarama.ProducerMessage, c *sarama.Config) error {
	producer, err := sarama.NewSyncProducer([]string{zoo.Bootstrap}, c)
	if err != nil {
		return err
	}
	for _, message := range messages {
		message.Topic = topic
	}
	err = producer.SendMessages(messages)
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) {
		err = failed[0].Err
	}
	return zoo.First(err, producer.Close())
}

func messages(values [][]byte) (made []*sarama.ProducerMessage) {
	for _, value := range values {
		message := &sarama.ProducerMessage{}
		if value != nil {
			message.Value = sarama.ByteEncoder(value)
		}
		made = append(made, message)
	}
	return made
}

func values(messages []*sarama.ConsumerMessage) (found [][]byte) {
	for _, message := range messages {
		found = append(found, message.Value)
	}
	return found
}

// read returns count records from an offset on, or fewer when twenty seconds are over.
func read(topic string, count int, start int64) (got []*sarama.ConsumerMessage, err error) {
	consumer, err := sarama.NewConsumer([]string{zoo.Bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	part, err := consumer.ConsumePartition(topic, 0, start)
	if err != nil {
		return nil, err
	}
	defer part.Close()
	for limit := time.After(20 * time.Second); len(got) < count; {
		select {
		case message := <-part.Messages():
			got = append(got, message)
		case failed := <-part.Errors():
			return got, failed
		case <-limit:
			return got, nil
		}
	}
	return got, nil
}

func createTopic() (string, error) {
	topic, err := create("create", 3)
	return "", zoo.First(err, zoo.WaitUntil("three partitions", 10*time.Second, func() bool { return partitionsOf(topic) == 3 }))
}

func produce(codec string, compression sarama.CompressionCodec) zoo.Check {
	return zoo.Check{Name: "produce_" + codec, Run: func() (string, error) {
		topic, err := create("codec-"+codec, 1)
		if err != nil {
			return "", err
		}
		payloads, c := zoo.Payloads(), config()
		c.Producer.Compression = compression
		if err := send(topic, messages(payloads), c); err != nil {
			return "", err
		}
		got, err := read(topic, len(payloads), 0)
		return "", zoo.First(err, zoo.SameValues(values(got), payloads))
	}}
}

func recordFields() (string, error) {
	topic, err := create("fields", 1)
	if err != nil {
		return "", err
	}
	headers := []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte{0, 255}},
		{Key: []byte("a"), Value: []byte("2")}, {Key: []byte("empty"), Value: []byte{}}, {Key: []byte("null")}}
	var sent []*sarama.ProducerMessage
	for i := range int64(5) {
		sent = append(sent, &sarama.ProducerMessage{Key: sarama.StringEncoder(fmt.Sprintf("k\x00%d", i)),
			Value: sarama.StringEncoder("v"), Headers: headers, Timestamp: time.UnixMilli(zoo.BaseTime + i)})
	}
	sent = append(sent, &sarama.ProducerMessage{Value: sarama.StringEncoder("no key")})
	if err := send(topic, sent, config()); err != nil {
		return "", err
	}
	got, err := read(topic, 6, 0)
	if err != nil || len(got) != 6 {
		return "", zoo.First(err, fmt.Errorf("%d records", len(got)))
	}
	for i, message := range got[:5] {
		for j, header := range message.Headers {
			err = zoo.First(err, zoo.Expect(*header, headers[j], "header"))
		}
		err = zoo.First(err, zoo.Expect(string(message.Key), fmt.Sprintf("k\x00%d", i), "key"),
			zoo.Expect(len(message.Headers), len(headers), "headers"),
			zoo.Expect(message.Timestamp.UnixMilli(), zoo.BaseTime+int64(i), "timestamp"))
	}
	return "", zoo.First(err, zoo.Expect(got[5].Key == nil, true, "key is null"), zoo.Expect(len(got[5].Headers), 0, "headers"))
}

func nullValue() (string, error) {
	topic, err := create("null", 1)
	if err != nil {
		return "", err
	}
	sent := [][]byte{nil, {}}
	if err := send(topic, messages(sent), config()); err != nil {
		return "", err
	}
	got, err := read(topic, 2, 0)
	return "", zoo.First(err, zoo.SameValues(values(got), sent))
}

func idempotent() (string, error) {
	topic, err := create("idempotent", 1)
	if err != nil {
		return "", err
	}
	sent, c := zoo.Numbers(5000), config()
	c.Producer.Idempotent, c.Net.MaxOpenRequests, c.Producer.Flush.MaxMessages = true, 1, 20
	if err := send(topic, messages(sent), c); err != nil {
		return "", err
	}
	got, err := read(topic, len(sent), 0)
	end, endErr := client.GetOffset(topic, 0, sarama.OffsetNewest)
	return "", zoo.First(err, endErr, zoo.SameValues(values(got), sent), zoo.Expect(end, len(sent), "end offset"))
}

// numberedTopic has forty records, one second apart.
func numberedTopic(what string) (string, error) {
	topic, err := create(what, 1)
	if err != nil {
		return topic, err
	}
	sent := messages(zoo.Numbers(40))
	for i, message := range sent {
		message.Timestamp = time.UnixMilli(zoo.BaseTime + int64(i)*1000)
	}
	return topic, send(topic, sent, config())
}

func consumeFrom(name string, start func(topic string) (int64, error), want [][]byte) zoo.Check {
	return zoo.Check{Name: "consume_" + name, Run: func() (string, error) {
		topic, err := numberedTopic(name)
		if err != nil {
			return "", err
		}
		offset, err := start(topic)
		if err != nil {
			return "", err
		}
		got, err := read(topic, len(want), offset)
		return "", zoo.First(err, zoo.SameValues(values(got), want))
	}}
}

func atTimestamp(topic string) (int64, error) {
	offset, err := client.GetOffset(topic, 0, zoo.BaseTime+22_500)
	return offset, zoo.First(err, zoo.Expect(offset, 23, "offset of the first record after 22.5 s"))
}

// handler commits a few messages at a time before it counts them: a commit travels on the connection of the
// fetches, so that it may wait as long as a fetch does.
type handler struct {
	hold  func(sarama.ConsumerGroupSession)
	seen  func(value []byte)
	limit int // messages to handle, 0 means all
	lock  sync.Mutex
	count int
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	h.hold(session)
	return nil
}

func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			h.handle(session, claim, message)
		case <-session.Context().Done():
			return nil
		}
	}
}

func (h *handler) handle(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim, message *sarama.ConsumerMessage) {
	h.lock.Lock()
	defer h.lock.Unlock()
	var batch [][]byte
	for message != nil && (h.limit == 0 || h.count < h.limit) && len(batch) < 10 {
		h.count++
		batch = append(batch, message.Value)
		session.MarkMessage(message, "")
		if len(batch) < 10 && (h.limit == 0 || h.count < h.limit) {
			select {
			case message = <-claim.Messages():
			default:
				message = nil
			}
		}
	}
	if len(batch) > 0 {
		session.Commit()
	}
	for _, value := range batch {
		h.seen(value)
	}
}

// join is a member of a group until the context ends; it returns once the group is left.
func join(limit context.Context, topic, group, instance string, h *handler) error {
	c := config()
	if instance != "" {
		c.Consumer.Group.InstanceId = instance
		c.Consumer.Group.Session.Timeout = 20 * time.Second
	}
	member, err := sarama.NewConsumerGroup([]string{zoo.Bootstrap}, group, c)
	if err != nil {
		return err
	}
	failed := make(chan error, 100)
	go func() {
		for err := range member.Errors() {
			failed <- err
		}
		close(failed)
	}()
	for limit.Err() == nil && err == nil {
		err = member.Consume(limit, []string{topic}, h)
	}
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	err = zoo.First(err, member.Close())
	for late := range failed {
		if !errors.Is(late, context.Canceled) {
			err = zoo.First(err, late)
		}
	}
	return err
}

func claims(session sarama.ConsumerGroupSession, topic string) int {
	return len(session.Claims()[topic])
}

func group(members int) zoo.Check {
	return zoo.Check{Name: fmt.Sprint("group_", members), Run: func() (string, error) {
		name := zoo.Name(fmt.Sprint("group-", members))
		topic, err := create(fmt.Sprint("group-", members), zoo.GroupPartitions)
		if err != nil {
			return "", err
		}
		member := func(self string, seen *zoo.Seen, stop chan struct{}) error {
			limit, cancel := context.WithCancel(context.Background())
			go func() {
				<-stop
				cancel()
			}()
			return join(limit, topic, name, "", &handler{
				hold: func(session sarama.ConsumerGroupSession) { seen.Hold(self, claims(session, topic)) },
				seen: func(value []byte) { seen.Add(string(value)) }})
		}
		remark, err := zoo.Group(members, topic, name, member, func() error {
			sent := messages(zoo.Numbers(zoo.GroupRecords))
			for i, message := range sent {
				message.Partition = int32(i % zoo.GroupPartitions)
			}
			return send(topic, sent, config())
		})
		if err != nil {
			return "", err
		}
		offsets, err := admin.ListConsumerGroupOffsets(name, map[string][]int32{topic: {0, 1, 2, 3, 4, 5, 6, 7}})
		if err != nil {
			return "", err
		}
		for partition := range int32(zoo.GroupPartitions) {
			err = zoo.First(err, zoo.Expect(offsets.GetBlock(topic, partition).Offset, zoo.GroupRecords/zoo.GroupPartitions,
				"committed offset"))
		}
		return remark, err
	}}
}

// victim says what it commits; it dies while it holds more.
func victim(topic, group string) {
	count := 0
	h := &handler{hold: func(session sarama.ConsumerGroupSession) { fmt.Println("assigned", claims(session, topic)) },
		limit: zoo.VictimRecords,
		seen: func(value []byte) {
			fmt.Println("seen", string(value))
			if count++; count == zoo.VictimRecords {
				zoo.Die()
			}
		}}
	panic(join(context.Background(), topic, group, "", h))
}

func staticMember() (string, error) {
	name := zoo.Name("static")
	topic, err := create("static", 4)
	if err != nil {
		return "", err
	}
	type state struct {
		claims     []int32
		id         string
		generation int32
		sessions   int
	}
	var lock sync.Mutex
	states := map[string]state{}
	of := func(instance string) state {
		lock.Lock()
		defer lock.Unlock()
		return states[instance]
	}
	start := func(instance string) (stop func() error) {
		limit, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- join(limit, topic, name, instance, &handler{seen: func([]byte) {},
				hold: func(session sarama.ConsumerGroupSession) {
					lock.Lock()
					defer lock.Unlock()
					states[instance] = state{session.Claims()[topic], session.MemberID(), session.GenerationID(),
						states[instance].sessions + 1}
				}})
		}()
		return func() error {
			cancel()
			return <-ended
		}
	}
	stopA, stopB := start("a"), start("b")
	err = zoo.WaitUntil("two partitions each", 20*time.Second, func() bool { return len(of("a").claims) == 2 && len(of("b").claims) == 2 })
	a, b := of("a"), of("b")
	err = zoo.First(err, stopB())
	lock.Lock()
	delete(states, "b")
	lock.Unlock()
	stopB = start("b")
	err = zoo.First(err, zoo.WaitUntil("partitions for the restarted member", 10*time.Second, func() bool { return len(of("b").claims) > 0 }))
	time.Sleep(1500 * time.Millisecond)
	err = zoo.First(err, zoo.Expect(of("a"), a, "the other member"),
		zoo.Expect(of("b").claims, b.claims, "partitions of the restarted member"),
		zoo.Expect(of("b").generation, b.generation, "generation"),
		zoo.Expect(of("b").id == b.id, false, "member id unchanged"))
	return "", zoo.First(err, stopA(), stopB())
}

// consumeSome lets a member take and commit count records, calls meanwhile, and leaves.
func consumeSome(topic, group string, count int, meanwhile func() error) (got [][]byte, err error) {
	limit, cancel := context.WithCancel(context.Background())
	defer cancel()
	full, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- join(limit, topic, group, "", &handler{hold: func(sarama.ConsumerGroupSession) {},
			limit: count,
			seen: func(value []byte) {
				if got = append(got, value); len(got) == count {
					close(full)
				}
			}})
	}()
	select {
	case <-full:
		err = meanwhile()
	case err = <-ended:
		return got, zoo.First(err, errors.New("the member ended early"))
	case <-time.After(20 * time.Second):
		err = fmt.Errorf("%d records after 20 s", len(got))
	}
	cancel()
	return got, zoo.First(err, <-ended)
}

func nothing() error { return nil }

func commitResume() (string, error) {
	topic, err := numberedTopic("resume")
	if err != nil {
		return "", err
	}
	first, err := consumeSome(topic, zoo.Name("resume"), 15, nothing)
	if err != nil {
		return "", err
	}
	second, err := consumeSome(topic, zoo.Name("resume"), 25, nothing)
	return "", zoo.First(err, zoo.SameValues(append(first, second...), zoo.Numbers(40)))
}

func configOf(topic, key string) string {
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	if err != nil {
		return err.Error()
	}
	for _, entry := range entries {
		if entry.Name == key {
			return entry.Value
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
	alter := func(key string, operation sarama.IncrementalAlterConfigsOperation, value *string) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic,
			map[string]sarama.IncrementalAlterConfigsEntry{key: {Operation: operation, Value: value}}, false)
	}
	becomes := func(key string, good func(string) bool) error {
		return zoo.WaitUntil("a changed "+key, 10*time.Second, func() bool { return good(configOf(topic, key)) })
	}
	value := "2097152"
	return "", zoo.First(alter("segment.bytes", sarama.IncrementalAlterConfigsOperationSet, &value),
		becomes("segment.bytes", func(v string) bool { return v == value }),
		zoo.Expect(configOf(topic, "retention.ms"), "1234567", "retention.ms"),
		alter("retention.ms", sarama.IncrementalAlterConfigsOperationDelete, nil),
		becomes("retention.ms", func(v string) bool { return v != "1234567" && v != "absent" }))
}

func listGroups() (string, error) {
	topic, err := numberedTopic("list-groups")
	if err != nil {
		return "", err
	}
	name := zoo.Name("list-groups")
	_, err = consumeSome(topic, name, 10, func() error {
		groups, err := admin.ListConsumerGroups()
		return zoo.First(err, zoo.Expect(groups[name], "consumer", "protocol type of the listed group"))
	})
	return "", err
}

func describeGroup() (string, error) {
	topic, err := numberedTopic("describe-group")
	if err != nil {
		return "", err
	}
	name := zoo.Name("describe-group")
	describe := func() (*sarama.GroupDescription, error) {
		groups, err := admin.DescribeConsumerGroups([]string{name})
		if err != nil {
			return nil, err
		}
		return groups[0], nil
	}
	_, err = consumeSome(topic, name, 10, func() error {
		found, err := describe()
		if err != nil {
			return err
		}
		for _, member := range found.Members {
			assignment, assignmentErr := member.GetMemberAssignment()
			if assignmentErr != nil {
				return assignmentErr
			}
			err = zoo.First(err, zoo.Expect(assignment.Topics, map[string][]int32{topic: {0}}, "assignment"))
		}
		return zoo.First(err, zoo.Expect(found.State, "Stable", "state"), zoo.Expect(len(found.Members), 1, "members"))
	})
	return "", zoo.First(err, zoo.WaitUntil("an empty group", 10*time.Second, func() bool {
		found, err := describe()
		return err == nil && found.State == "Empty"
	}))
}

func listOffsets() (string, error) {
	topic, err := numberedTopic("list-offsets")
	if err != nil {
		return "", err
	}
	name := zoo.Name("list-offsets")
	if _, err := consumeSome(topic, name, 10, nothing); err != nil {
		return "", err
	}
	first, err1 := admin.ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetOldest}}, nil)
	last, err2 := admin.ListOffsets(map[string]map[int32]int64{topic: {0: sarama.OffsetNewest}}, nil)
	committed, err3 := admin.ListConsumerGroupOffsets(name, map[string][]int32{topic: {0}})
	if err := zoo.First(err1, err2, err3); err != nil {
		return "", err
	}
	return "", zoo.First(zoo.Expect(first[topic][0].Offset, 0, "earliest offset"),
		zoo.Expect(last[topic][0].Offset, 40, "latest offset"),
		zoo.Expect(committed.GetBlock(topic, 0).Offset, 10, "committed offset"))
}

func deleteRecords() (string, error) {
	topic, err := numberedTopic("delete-records")
	if err != nil {
		return "", err
	}
	if err := admin.DeleteRecords(topic, map[int32]int64{0: 25}); err != nil {
		return "", err
	}
	start, err := client.GetOffset(topic, 0, sarama.OffsetOldest)
	got, readErr := read(topic, 1, sarama.OffsetOldest)
	return "", zoo.First(err, readErr, zoo.Expect(start, 25, "earliest offset"), zoo.SameValues(values(got), [][]byte{[]byte("25")}))
}

func deleteTopic() (string, error) {
	topic, err := create("delete", 1)
	return "", zoo.First(err, admin.DeleteTopic(topic),
		zoo.WaitUntil("the topic gone", 10*time.Second, func() bool { return partitionsOf(topic) == 0 }))
}

func refused(err, wanted error) (string, error) {
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
	remark, err := refused(send(topic, messages(zoo.Payloads()[9:]), config()), sarama.ErrMessageSizeTooLarge)
	return remark, zoo.First(err, send(topic, messages(zoo.Numbers(1)), config()))
}

func errorUnknownTopic() (string, error) {
	return refused(admin.DeleteTopic(zoo.Name("nowhere")), sarama.ErrUnknownTopicOrPartition)
}

func errorBadTopicName() (string, error) {
	_, err := create("bad/name!", 1)
	return refused(err, sarama.ErrInvalidTopic)
}

func main() {
	sarama.Logger = log.New(io.Discard, "", 0)
	if arguments := zoo.Start("sarama", "github.com/IBM/sarama"); arguments != nil {
		victim(arguments[0], arguments[1])
	}
	var err error
	if client, err = sarama.NewClient([]string{zoo.Bootstrap}, config()); err == nil {
		admin, err = sarama.NewClusterAdminFromClient(client)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer admin.Close()
	at := func(offset int64) func(string) (int64, error) {
		return func(string) (int64, error) { return offset, nil }
	}
	zoo.Run(zoo.Check{Name: "create_topic", Run: createTopic},
		produce("none", sarama.CompressionNone), produce("gzip", sarama.CompressionGZIP),
		produce("snappy", sarama.CompressionSnappy), produce("lz4", sarama.CompressionLZ4),
		produce("zstd", sarama.CompressionZSTD),
		zoo.Check{Name: "record_fields", Run: recordFields}, zoo.Check{Name: "null_value", Run: nullValue},
		zoo.Check{Name: "idempotent", Run: idempotent},
		zoo.Check{Name: "idempotent_in_flight", Run: func() (string, error) {
			return "", zoo.NotOffered("an idempotent producer must have Net.MaxOpenRequests = 1")
		}},
		consumeFrom("start", at(sarama.OffsetOldest), zoo.Numbers(40)),
		consumeFrom("offset", at(17), zoo.Numbers(40)[17:18]),
		consumeFrom("timestamp", atTimestamp, zoo.Numbers(40)[23:24]),
		zoo.Check{Name: "commit_resume", Run: commitResume},
		zoo.Check{Name: "describe_configs", Run: describeConfigs}, zoo.Check{Name: "alter_configs", Run: alterConfigs},
		zoo.Check{Name: "list_groups", Run: listGroups}, zoo.Check{Name: "describe_group", Run: describeGroup},
		zoo.Check{Name: "list_offsets", Run: listOffsets}, zoo.Check{Name: "delete_records", Run: deleteRecords},
		zoo.Check{Name: "delete_topic", Run: deleteTopic}, zoo.Check{Name: "error_too_large", Run: errorTooLarge},
		zoo.Check{Name: "error_unknown_topic", Run: errorUnknownTopic},
		zoo.Check{Name: "error_bad_topic_name", Run: errorBadTopicName})
	zoo.RunTogether(group(1), group(2), group(3), group(4), zoo.Check{Name: "static_member", Run: staticMember})
}

// franz-go as an application that produces and consumes without end.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/zoo/go/steady"
)

func open(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(steady.Bootstrap...)}, options...)...)
	if err != nil {
		panic(err)
	}
	return client
}

func produce(stop <-chan struct{}) {
	client := open(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(steady.Topic))
	defer client.Close()
	for value := int64(1); ; {
		select {
		case <-stop:
			if err := client.Flush(context.Background()); err != nil {
				steady.Error("flush", err)
			}
			return
		case <-time.After(steady.Pause):
		}
		for p := range steady.Partitions {
			number, from := value, steady.Clock()
			client.Produce(context.Background(), &kgo.Record{Partition: p, Value: steady.Payload(number)}, func(r *kgo.Record, err error) {
				steady.Sent(p, number, from, r.Offset, err)
			})
			value++
		}
	}
}

func member(number int, stop <-chan struct{}) {
	where, fresh := fmt.Sprintf("member %d", number), map[int32]bool{}
	client := open(kgo.ConsumerGroup(steady.Topic+"-group"), kgo.ConsumeTopics(steady.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			for _, p := range assigned[steady.Topic] {
				fresh[p] = true
			}
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			if len(lost[steady.Topic]) > 0 {
				steady.Error(where, fmt.Errorf("partitions lost: %v", lost[steady.Topic]))
			}
		}))
	defer client.CloseAllowingRebalance()
	life, end := context.WithCancel(context.Background())
	go func() {
		<-stop
		end()
	}()
	for life.Err() == nil {
		from := steady.Clock()
		fetches := client.PollFetches(life)
		fetches.EachError(func(topic string, p int32, err error) {
			if !errors.Is(err, context.Canceled) {
				steady.Error(where, fmt.Errorf("%s-%d: %w", topic, p, err))
			}
		})
		fetches.EachPartition(func(found kgo.FetchTopicPartition) {
			var records []steady.Record
			for _, r := range found.Records {
				records = append(records, steady.Record{Partition: r.Partition, Offset: r.Offset, Value: r.Value})
			}
			if len(records) > 0 {
				steady.Read(number, from, fresh[found.Partition], records)
				delete(fresh, found.Partition)
			}
		})
		if !fetches.Empty() {
			if err := client.CommitUncommittedOffsets(life); err != nil && !errors.Is(err, context.Canceled) {
				steady.Error(where+" commits", err)
			}
		}
		client.AllowRebalance()
	}
}

func ends() (map[int32]int64, error) {
	client := open()
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(context.Background(), steady.Topic)
	if err != nil {
		return nil, err
	}
	found := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		found[o.Partition] = o.Offset
		if o.Err != nil {
			err = o.Err
		}
	})
	return found, err
}

func main() { steady.Main("franz-go", "github.com/twmb/franz-go", produce, member, ends) }

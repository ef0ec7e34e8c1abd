// sarama as an application that produces and consumes without end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"millrace/tests/zoo/go/steady"
)

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1 // what its idempotent producer demands
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Return.Errors = true
	return c
}

type sent struct{ number, from int64 }

func produce(stop <-chan struct{}) {
	producer, err := sarama.NewAsyncProducer(steady.Bootstrap, config())
	if err != nil {
		steady.Error("producer", err)
		return
	}
	ended := make(chan struct{}, 2)
	var open atomic.Int64
	go func() {
		for m := range producer.Successes() {
			s := m.Metadata.(sent)
			steady.Sent(m.Partition, s.number, s.from, m.Offset, nil)
			open.Add(-1)
		}
		ended <- struct{}{}
	}()
	go func() {
		for e := range producer.Errors() {
			s := e.Msg.Metadata.(sent)
			steady.Sent(e.Msg.Partition, s.number, s.from, -1, e.Err)
			open.Add(-1)
		}
		ended <- struct{}{}
	}()
	for value := int64(1); ; {
		select {
		case <-stop:
			for open.Load() > 0 { // closing gives up what is to be tried again
				time.Sleep(steady.Pause)
			}
			producer.AsyncClose()
			<-ended
			<-ended
			return
		case <-time.After(steady.Pause):
		}
		for p := range steady.Partitions {
			open.Add(1)
			producer.Input() <- &sarama.ProducerMessage{Topic: steady.Topic, Partition: p,
				Value: sarama.ByteEncoder(steady.Payload(value)), Metadata: sent{value, steady.Clock()}}
			value++
		}
	}
}

type handler struct {
	number int
	where  string
}

func (*handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for fresh := true; ; {
		from := steady.Clock()
		select {
		case <-session.Context().Done():
			return nil
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			steady.Read(h.number, from, fresh, []steady.Record{{Partition: m.Partition, Offset: m.Offset, Value: m.Value}})
			fresh = false
			session.MarkMessage(m, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		}
	}
}

// passing: sarama tells its user of each connection that a broker closes or refuses and of each coordinator that moves, and goes on
// when it is called again.
func passing(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.As(err, &network) || errors.Is(err, sarama.ErrNotCoordinatorForConsumer)
}

func member(number int, stop <-chan struct{}) {
	h := &handler{number, fmt.Sprintf("member %d", number)}
	group, err := sarama.NewConsumerGroup(steady.Bootstrap, steady.Topic+"-group", config())
	if err != nil {
		steady.Error(h.where, err)
		return
	}
	go func() {
		for err := range group.Errors() {
			if !passing(err) {
				steady.Error(h.where, err)
			}
		}
	}()
	life, end := context.WithCancel(context.Background())
	go func() {
		<-stop
		end()
	}()
	for life.Err() == nil {
		if err := group.Consume(life, []string{steady.Topic}, h); err != nil && !errors.Is(err, context.Canceled) {
			if !passing(err) {
				steady.Error(h.where+" consumes", err)
			}
			time.Sleep(steady.Pause)
		}
	}
	_ = group.Close()
}

func ends() (map[int32]int64, error) {
	client, err := sarama.NewClient(steady.Bootstrap, config())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := map[int32]int64{}
	for p := range steady.Partitions {
		if found[p], err = client.GetOffset(steady.Topic, p, sarama.OffsetNewest); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func main() { steady.Main("sarama", "github.com/IBM/sarama", produce, member, ends) }

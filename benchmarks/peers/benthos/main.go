// Benthos core with just the components that the gateway needs. Core itself has neither XML nor
// Kafka: the processor `states` and the output `kafka` are here, everything else is config.yaml.
package main

import (
	"context"
	"encoding/xml"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// states splits a document into one structured message a <state>.
type states struct{}

func (states) Process(_ context.Context, m *service.Message) (service.MessageBatch, error) {
	body, err := m.AsBytes()
	if err != nil {
		return nil, err
	}
	var doc struct {
		XMLName xml.Name `xml:"response"`
		States  []struct {
			Attrs  []xml.Attr `xml:",any,attr"`
			Status string     `xml:",chardata"`
		} `xml:"state"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	batch := make(service.MessageBatch, len(doc.States))
	for i, s := range doc.States {
		fields := make(map[string]any, len(s.Attrs)+1)
		for _, attr := range s.Attrs {
			fields[attr.Name.Local] = attr.Value
		}
		fields["status"] = strings.TrimSpace(s.Status)
		part := m.Copy()
		part.SetStructured(fields)
		batch[i] = part
	}
	return batch, nil
}

func (states) Close(context.Context) error { return nil }

// kafka publishes a batch and returns once the broker has acknowledged all of it.
type kafka struct {
	brokers []string
	topic   string
	key     *service.InterpolatedString
	client  *kgo.Client
}

func (k *kafka) Connect(context.Context) (err error) {
	// franz-go's producer is idempotent with acks=all unless told otherwise.
	k.client, err = kgo.NewClient(
		kgo.SeedBrokers(k.brokers...),
		kgo.DefaultProduceTopic(k.topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
	)
	return err
}

func (k *kafka) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	records := make([]*kgo.Record, len(batch))
	keys := batch.InterpolationExecutor(k.key)
	for i, m := range batch {
		key, err := keys.TryBytes(i)
		if err != nil {
			return err
		}
		value, err := m.AsBytes()
		if err != nil {
			return err
		}
		records[i] = &kgo.Record{Key: key, Value: value}
	}
	return k.client.ProduceSync(ctx, records...).FirstErr()
}

func (k *kafka) Close(context.Context) error {
	if k.client != nil {
		k.client.Close()
	}
	return nil
}

func main() {
	service.MustRegisterProcessor("states", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Resources) (service.Processor, error) {
			return states{}, nil
		})
	spec := service.NewConfigSpec().
		Field(service.NewStringField("brokers")).
		Field(service.NewStringField("topic")).
		Field(service.NewInterpolatedStringField("key")).
		Field(service.NewOutputMaxInFlightField().Default(256))
	service.MustRegisterBatchOutput("kafka", spec,
		func(conf *service.ParsedConfig, _ *service.Resources) (
			out service.BatchOutput, _ service.BatchPolicy, maxInFlight int, err error,
		) {
			k := &kafka{}
			brokers, err := conf.FieldString("brokers")
			if err != nil {
				return
			}
			k.brokers = strings.Split(brokers, ",")
			if k.topic, err = conf.FieldString("topic"); err != nil {
				return
			}
			if k.key, err = conf.FieldInterpolatedString("key"); err != nil {
				return
			}
			maxInFlight, err = conf.FieldMaxInFlight()
			return k, service.BatchPolicy{}, maxInFlight, err
		})
	service.RunCLI(context.Background())
}

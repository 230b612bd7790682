// A subscriber with franz-go in a consumer group: keeps every event once, and the latest status of
// each message.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	statusSchema = "urn:sms-status-bridge:schema:status:1"
	maxRecords   = 500
	retryAfter   = time.Second
)

var versions = spec.WithPrefix("ce_")

// stateOf reads a record in either content mode. The CloudEvents SDK has no binding for franz-go, but
// knows which header is which attribute.
func stateOf(record *kgo.Record) (event.Event, error) {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[strings.ToLower(header.Key)] = string(header.Value)
	}
	read := event.Event{}
	if contentType := headers["content-type"]; format.IsFormat(contentType) {
		if err := format.Unmarshal(contentType, record.Value, &read); err != nil {
			return read, err
		}
	} else if version := versions.Version(headers["ce_specversion"]); version != nil {
		read = event.Event{Context: version.NewContext(), DataEncoded: record.Value}
		for name, value := range headers {
			if err := version.SetAttribute(read.Context, name, value); err != nil {
				return read, err // headers without the prefix are passed over
			}
		}
		read.SetDataContentType(contentType)
	} else {
		return read, errors.New("not a CloudEvent")
	}
	if err := read.Validate(); err != nil {
		return read, err
	}
	if read.DataSchema() != statusSchema {
		return read, fmt.Errorf("unknown dataschema %q", read.DataSchema())
	}
	var data map[string]any
	if err := json.Unmarshal(read.Data(), &data); err != nil {
		return read, err
	}
	if data == nil { // what null is to Go
		return read, errors.New("the data is no object")
	}
	return read, nil
}

// take keeps what a record holds, and does not give up before it could: what comes later must not
// be committed without it.
func take(ctx context.Context, database *pgxpool.Pool, record *kgo.Record) error {
	state, err := stateOf(record)
	if err != nil {
		log.Printf("passed over: %s/%d@%d: %v", record.Topic, record.Partition, record.Offset, err)
		return nil
	}
	for {
		_, err := database.Exec(ctx, "SELECT keep_state($1, $2, $3)", state.Source(), state.ID(), state.Data())
		if err == nil {
			return nil
		}
		log.Printf("to be tried again: %v", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryAfter):
		}
	}
}

func run(ctx context.Context) error {
	database, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer database.Close()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.ConsumerGroup(os.Getenv("KAFKA_GROUP")),
		kgo.ConsumeTopics(os.Getenv("KAFKA_TOPIC")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Only what is marked is committed: by default it is all that the next poll finds polled.
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(time.Second),
	)
	if err != nil {
		return err
	}
	defer client.Close() // commits what is marked, and leaves the group
	for {
		fetched := client.PollRecords(ctx, maxRecords)
		if ctx.Err() != nil {
			return nil
		}
		fetched.EachError(func(topic string, partition int32, err error) {
			log.Printf("%s/%d: %v", topic, partition, err)
		})
		for _, record := range fetched.Records() {
			if err := take(ctx, database, record); err != nil {
				return nil // asked to stop
			}
			client.MarkCommitRecords(record)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

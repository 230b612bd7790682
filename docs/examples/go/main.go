// A subscriber in Go: prints each event once, and keeps the latest status of each message.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
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
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	statusSchema   = "urn:sms-status-bridge:schema:status:1"
	rejectedSchema = "urn:sms-status-bridge:schema:rejected:1"
	maxRecords     = 500
)

// --- reading an event ------------------------------------------------------------------------

var versions = spec.WithPrefix("ce_")

// eventOf reads a record in either content mode. The CloudEvents SDK knows two Kafka clients, of
// which franz-go is none: which header is what is asked of the SDK all the same.
func eventOf(record *kgo.Record) (event.Event, error) {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[strings.ToLower(header.Key)] = string(header.Value)
	}
	contentType := headers["content-type"]
	if format.IsFormat(contentType) {
		var structured event.Event
		err := format.Unmarshal(contentType, record.Value, &structured)
		return structured, err
	}
	version := versions.Version(headers["ce_specversion"])
	if version == nil {
		return event.Event{}, errors.New("not a CloudEvent")
	}
	attributes := version.NewContext()
	for name, value := range headers {
		if err := version.SetAttribute(attributes, name, value); err != nil {
			return event.Event{}, err // headers without the prefix are passed over
		}
	}
	err := attributes.SetDataContentType(contentType)
	return event.Event{Context: attributes, DataEncoded: record.Value}, err
}

// --- the latest status of a message ----------------------------------------------------------

// State is what is kept of an event; of a dead letter only its identity.
type State struct {
	Source     string  `json:"source"`
	ID         string  `json:"id"`
	IDSms      string  `json:"id_sms,omitempty"`
	Status     string  `json:"status,omitempty"`
	Outcome    *string `json:"outcome"`
	Final      *bool   `json:"final"`
	Rank       *int    `json:"rank"`
	ChangedAt  *string `json:"changed_at"`
	ReceivedAt string  `json:"received_at"`
}

func stateOf(e event.Event) (State, error) {
	var state State
	if err := e.Validate(); err != nil {
		return state, err
	}
	if err := e.DataAs(&state); err != nil {
		return state, err
	}
	state.Source, state.ID = e.Source(), e.ID()
	switch e.DataSchema() {
	case statusSchema:
		return state, nil
	case rejectedSchema:
		return State{Source: e.Source(), ID: e.ID()}, nil
	}
	return state, fmt.Errorf("unknown dataschema %q", e.DataSchema())
}

// compare is the rule: the higher rank, then the later time, then the greater id; null is lowest.
// Times of this form compare as text.
func compare(a, b State) int {
	return cmp.Or(
		cmp.Compare(or(a.Rank, -1), or(b.Rank, -1)),
		cmp.Compare(or(a.ChangedAt, ""), or(b.ChangedAt, "")),
		cmp.Compare(a.ID, b.ID),
	)
}

func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// settled tells whether the outcome stands: it is final, or nothing has outranked it for so long.
func settled(state State, now time.Time, patience time.Duration) bool {
	receivedAt, err := time.Parse(time.RFC3339Nano, state.ReceivedAt)
	return or(state.Final, false) || err == nil && now.Sub(receivedAt) >= patience
}

// --- what survives a restart -----------------------------------------------------------------

type identity struct{ source, id string }

// Store holds the table, and the file that it is made of: one line for each batch of records, with
// where to go on and the events that were new. A line is there as a whole or does not count, so
// the two can never disagree.
type Store struct {
	file    *os.File
	offsets map[string]int64 // by topic/partition: the next record
	seen    map[identity]bool
	latest  map[identity]State // by source and id_sms
}

type batch struct {
	Offsets map[string]int64 `json:"offsets"`
	States  []State          `json:"states"`
}

func open(path string) (*Store, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	store := &Store{file, map[string]int64{}, map[identity]bool{}, map[identity]State{}}
	whole := int64(0)
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the end, or half a line of a writer that was killed
		}
		var written batch
		if err := json.Unmarshal(line, &written); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		store.apply(written)
		whole += int64(len(line))
	}
	if err := file.Truncate(whole); err != nil {
		return nil, err
	}
	_, err = file.Seek(whole, 0)
	return store, err
}

func (s *Store) apply(written batch) {
	for place, next := range written.Offsets {
		s.offsets[place] = next
	}
	for _, state := range written.States {
		s.seen[identity{state.Source, state.ID}] = true
		message := identity{state.Source, state.IDSms}
		held, found := s.latest[message]
		if state.Status != "" && (!found || compare(state, held) > 0) {
			s.latest[message] = state
		}
	}
}

func (s *Store) commit(written batch) error {
	line, err := json.Marshal(written)
	if err != nil {
		return err
	}
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.apply(written)
	return nil
}

// --- the program -----------------------------------------------------------------------------

// take prints the events of these records that are new, and then keeps them: after a crash some may
// be printed again. What must not happen twice belongs into the store's own transaction.
func take(store *Store, records []*kgo.Record, out *bufio.Writer) error {
	written := batch{Offsets: map[string]int64{}}
	fresh := map[identity]bool{}
	for _, each := range records {
		written.Offsets[place(each.Topic, each.Partition)] = each.Offset + 1
		read, err := eventOf(each)
		var state State
		if err == nil {
			state, err = stateOf(read)
		}
		if err != nil {
			log.Printf("passed over: %s@%d: %v", place(each.Topic, each.Partition), each.Offset, err)
			continue
		}
		if which := (identity{state.Source, state.ID}); !store.seen[which] && !fresh[which] {
			fresh[which] = true
			written.States = append(written.States, state)
			if err := show(out, read); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return store.commit(written)
}

func show(out *bufio.Writer, value any) error {
	line, err := json.Marshal(value)
	if err == nil {
		_, err = out.Write(append(line, '\n'))
	}
	return err
}

func place(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// assign gives the client all partitions of the topics, each from where the store has come to. It
// returns, of each partition that is not yet read to its end, the end.
func assign(ctx context.Context, client *kgo.Client, store *Store, topics []string) (map[string]int64, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(starts.Error(), ends.Error()); err != nil {
		return nil, err
	}
	unread := map[string]int64{}
	from := map[string]map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		next := max(start.Offset, store.offsets[place(end.Topic, end.Partition)])
		if next < end.Offset {
			unread[place(end.Topic, end.Partition)] = end.Offset
		}
		if from[end.Topic] == nil {
			from[end.Topic] = map[int32]kgo.Offset{}
		}
		from[end.Topic][end.Partition] = kgo.NewOffset().At(next)
	})
	client.AddConsumePartitions(from)
	return unread, nil
}

func run(ctx context.Context, brokers, topics []string, file string, patience time.Duration, untilEnd bool) error {
	store, err := open(file)
	if err != nil {
		return err
	}
	defer store.file.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	unread, err := assign(ctx, client, store, topics)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for ctx.Err() == nil && !(untilEnd && len(unread) == 0) {
		fetched := client.PollRecords(ctx, maxRecords)
		fetched.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.Canceled) {
				log.Printf("%s: %v", place(topic, partition), err)
			}
		})
		if fetched.Empty() {
			continue
		}
		if err := take(store, fetched.Records(), out); err != nil {
			return err
		}
		for where, end := range unread {
			if store.offsets[where] >= end {
				delete(unread, where)
			}
		}
	}
	return table(store, patience, out)
}

// table prints the latest status of each message.
func table(store *Store, patience time.Duration, out *bufio.Writer) error {
	now := time.Now()
	for _, state := range store.latest {
		row := struct {
			State
			Settled bool `json:"settled"`
		}{state, settled(state, now, patience)}
		if err := show(out, map[string]any{"latest": row}); err != nil {
			return err
		}
	}
	return out.Flush()
}

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "host:port, with commas between")
	topics := flag.String("topics", "sms.status,sms.status.rejected", "with commas between")
	file := flag.String("store", "statuses.jsonl", "the file that survives a restart")
	patience := flag.Int("patience", 172800, "seconds after which an outcome stands that is not final")
	untilEnd := flag.Bool("until-end", false, "stop at what is now the end of the topics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wait := time.Duration(*patience) * time.Second
	err := run(ctx, strings.Split(*brokers, ","), strings.Split(*topics, ","), *file, wait, *untilEnd)
	if err != nil {
		log.Fatal(err)
	}
}

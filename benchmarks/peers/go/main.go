// A plain gateway in Go: net/http, encoding/xml and franz-go. One event a state, in one produce
// call for the document; it answers with the ids once the broker has acknowledged all of them.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	maxBodyBytes   = 4 << 20
	publishTimeout = 4 * time.Second
)

type document struct {
	XMLName xml.Name `xml:"response"`
	States  []state  `xml:"state"`
}

type state struct {
	ID     string `xml:"id_sms,attr" json:"id_sms"`
	Status string `xml:",chardata" json:"status"`
	SMS    string `xml:"sms,attr" json:"sms,omitempty"`
	Viber  string `xml:"viber,attr" json:"viber,omitempty"`
	Time   string `xml:"time,attr" json:"time,omitempty"`
}

type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            state     `json:"data"`
}

type answer struct {
	XMLName xml.Name `xml:"response"`
	IDs     []string `xml:"id_sms"`
}

type gateway struct {
	client *kgo.Client
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var doc document
	if err := xml.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes)).Decode(&doc); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	now := time.Now().UTC()
	records := make([]*kgo.Record, len(doc.States))
	ids := make([]string, len(doc.States))
	for i, s := range doc.States {
		s.Status = strings.TrimSpace(s.Status)
		value, err := json.Marshal(event{
			SpecVersion:     "1.0",
			ID:              rand.Text(),
			Source:          "urn:example:sms:main",
			Type:            "com.example.messaging.status." + s.Status,
			Subject:         s.ID,
			Time:            now,
			DataContentType: "application/json",
			Data:            s,
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		records[i] = &kgo.Record{Key: []byte(s.ID), Value: value}
		ids[i] = s.ID
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishTimeout)
	defer cancel()
	if err := g.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		log.Printf("publish: %v", err)
		http.Error(w, "not published", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Write([]byte(xml.Header))
	xml.NewEncoder(w).Encode(answer{IDs: ids})
}

func main() {
	// franz-go's producer is idempotent with acks=all unless told otherwise.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), ",")...),
		kgo.DefaultProduceTopic(os.Getenv("TOPIC")),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	mux := http.NewServeMux()
	mux.Handle("POST /webhook", &gateway{client})
	server := &http.Server{
		Addr:              "127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "8080"),
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server.Shutdown(ctx)
}

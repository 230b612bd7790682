// A subscriber in Java: prints each event once, and keeps the latest status of each message.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.jackson.JsonFormat;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.io.IOException;
import java.io.PrintStream;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Subscriber {
  static final String STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1";
  static final String REJECTED_SCHEMA = "urn:sms-status-bridge:schema:rejected:1";
  static final List<String> KEPT =
      List.of("id_sms", "status", "outcome", "final", "rank", "changed_at", "received_at");
  static final Duration POLL = Duration.ofMillis(500);
  static final int MAX_RECORDS = 500;
  static final ObjectMapper JSON = new ObjectMapper();
  static final JsonFormat FORMAT = new JsonFormat();

  record Identity(String source, String id) {}

  // --- reading an event ----------------------------------------------------------------------

  /** Read a record in either content mode. */
  static CloudEvent eventOf(ConsumerRecord<byte[], byte[]> record) {
    return KafkaMessageFactory.createReader(record).toEvent();
  }

  /** What is kept of an event; of a dead letter only its identity. */
  static ObjectNode stateOf(CloudEvent event) throws IOException {
    ObjectNode state = JSON.createObjectNode();
    state.put("source", event.getSource().toString()).put("id", event.getId());
    String schema = String.valueOf(event.getDataSchema());
    if (schema.equals(REJECTED_SCHEMA)) {
      return state;
    }
    if (!schema.equals(STATUS_SCHEMA)) {
      throw new IOException("unknown dataschema " + schema);
    }
    JsonNode data = JSON.readTree(event.getData().toBytes());
    for (String name : KEPT) {
      state.set(name, data.required(name));
    }
    return state;
  }

  // --- the latest status of a message --------------------------------------------------------

  /**
   * The rule: the higher rank, then the later time, then the greater id; null is lowest. Times of
   * this form compare as text.
   */
  static final Comparator<JsonNode> PRECEDENCE =
      Comparator.<JsonNode>comparingInt(state -> state.get("rank").asInt(-1))
          .thenComparing(state -> state.get("changed_at").asText(""))
          .thenComparing(state -> state.get("id").asText());

  /** Whether the outcome stands: it is final, or nothing has outranked it for so long. */
  static boolean settled(JsonNode state, Instant now, Duration patience) {
    Instant receivedAt = Instant.parse(state.get("received_at").asText());
    return state.get("final").asBoolean(false)
        || Duration.between(receivedAt, now).compareTo(patience) >= 0;
  }

  // --- what survives a restart ---------------------------------------------------------------

  /**
   * The table, and the file that it is made of.
   *
   * <p>The file has one line for each batch of records, with where to go on and the events that
   * were new. A line is there as a whole or does not count, so the two can never disagree.
   */
  static class Store implements AutoCloseable {
    final Map<String, Long> offsets = new HashMap<>(); // by topic/partition: the next record
    final Set<Identity> seen = new HashSet<>();
    final Map<Identity, JsonNode> latest = new HashMap<>();
    private final RandomAccessFile file;

    Store(String path) throws IOException {
      file = new RandomAccessFile(path, "rw");
      byte[] content = new byte[(int) file.length()];
      file.readFully(content);
      int whole = 0;
      for (int at = 0; at < content.length; at++) {
        if (content[at] == '\n') { // what follows the last is of a writer that was killed
          apply(JSON.readTree(content, whole, at - whole));
          whole = at + 1;
        }
      }
      file.setLength(whole);
      file.seek(whole);
    }

    /** Keep a batch of records: all of it or, if this is interrupted, nothing. */
    void commit(ObjectNode written) throws IOException {
      file.write((JSON.writeValueAsString(written) + "\n").getBytes(StandardCharsets.UTF_8));
      file.getFD().sync();
      apply(written);
    }

    private void apply(JsonNode written) {
      written.get("offsets").fields().forEachRemaining(
          each -> offsets.put(each.getKey(), each.getValue().asLong()));
      for (JsonNode state : written.get("states")) {
        String source = state.get("source").asText();
        seen.add(new Identity(source, state.get("id").asText()));
        if (state.has("status")) {
          Identity message = new Identity(source, state.get("id_sms").asText());
          latest.merge(
              message, state, (held, came) -> PRECEDENCE.compare(came, held) > 0 ? came : held);
        }
      }
    }

    @Override
    public void close() throws IOException {
      file.close();
    }
  }

  // --- the program ---------------------------------------------------------------------------

  static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

  /**
   * Print the events that are new, and then keep them: after a crash some are printed again. What
   * must not happen twice belongs into the store's own transaction.
   */
  static void take(Store store, ConsumerRecords<byte[], byte[]> records) throws IOException {
    ObjectNode written = JSON.createObjectNode();
    ObjectNode offsets = written.putObject("offsets");
    ArrayNode states = written.putArray("states");
    Set<Identity> fresh = new HashSet<>();
    StringBuilder lines = new StringBuilder();
    for (ConsumerRecord<byte[], byte[]> record : records) {
      String place = place(record.topic(), record.partition());
      offsets.put(place, record.offset() + 1);
      try {
        CloudEvent event = eventOf(record);
        ObjectNode state = stateOf(event);
        Identity identity = new Identity(event.getSource().toString(), event.getId());
        if (!store.seen.contains(identity) && fresh.add(identity)) {
          states.add(state);
          lines.append(new String(FORMAT.serialize(event), StandardCharsets.UTF_8)).append('\n');
        }
      } catch (IOException | RuntimeException e) {
        System.err.println("passed over: " + place + "@" + record.offset() + ": " + e);
      }
    }
    OUT.print(lines);
    OUT.flush();
    store.commit(written);
  }

  static String place(String topic, int partition) {
    return topic + "/" + partition;
  }

  /**
   * Take all partitions of the topics, each from where the store has come to. Returns, of each
   * partition that is not yet read to its end, the end.
   */
  static Map<String, Long> assign(
      KafkaConsumer<byte[], byte[]> consumer, Store store, List<String> topics) {
    List<TopicPartition> partitions =
        topics.stream()
            .flatMap(topic -> consumer.partitionsFor(topic).stream())
            .map(found -> new TopicPartition(found.topic(), found.partition()))
            .toList();
    consumer.assign(partitions);
    Map<TopicPartition, Long> starts = consumer.beginningOffsets(partitions);
    Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
    Map<String, Long> unread = new HashMap<>();
    for (TopicPartition at : partitions) {
      String place = place(at.topic(), at.partition());
      long next = Math.max(starts.get(at), store.offsets.getOrDefault(place, 0L));
      consumer.seek(at, next);
      if (next < ends.get(at)) {
        unread.put(place, ends.get(at));
      }
    }
    return unread;
  }

  /** Print the latest status of each message. */
  static void table(Store store, Duration patience) throws IOException {
    Instant now = Instant.now();
    for (JsonNode state : store.latest.values()) {
      ObjectNode row = state.deepCopy();
      row.put("settled", settled(state, now, patience));
      OUT.println(JSON.writeValueAsString(Map.of("latest", row)));
    }
    OUT.flush();
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, String> options = new HashMap<>(Map.of(
        "--brokers", "127.0.0.1:9092", // host:port, with commas between
        "--topics", "sms.status,sms.status.rejected",
        "--store", "statuses.jsonl", // the file that survives a restart
        "--patience", "172800")); // seconds after which an outcome stands that is not final
    boolean untilEnd = false; // stop at what is now the end of the topics
    for (int at = 0; at < arguments.length; at++) {
      if (arguments[at].equals("--until-end")) {
        untilEnd = true;
      } else if (options.containsKey(arguments[at]) && at + 1 < arguments.length) {
        options.put(arguments[at], arguments[++at]);
      } else {
        throw new IllegalArgumentException("options: --until-end " + options.keySet());
      }
    }
    run(options, untilEnd);
  }

  static void run(Map<String, String> options, boolean untilEnd) throws IOException {
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", options.get("--brokers"),
            "enable.auto.commit", false,
            "max.poll.records", MAX_RECORDS);
    try (Store store = new Store(options.get("--store"));
        KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      Thread main = Thread.currentThread();
      Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(consumer, main)));
      try {
        Map<String, Long> unread =
            assign(consumer, store, List.of(options.get("--topics").split(",")));
        while (!(untilEnd && unread.isEmpty())) {
          ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL);
          if (!records.isEmpty()) {
            take(store, records);
          }
          unread.entrySet().removeIf(
              each -> store.offsets.getOrDefault(each.getKey(), 0L) >= each.getValue());
        }
      } catch (WakeupException e) {
        // asked to stop
      }
      table(store, Duration.ofSeconds(Long.parseLong(options.get("--patience"))));
    }
  }

  /** Let the main thread come to its end, unless it is the one that has just done so. */
  static void stop(KafkaConsumer<byte[], byte[]> consumer, Thread main) {
    consumer.wakeup();
    try {
      main.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}

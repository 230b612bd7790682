// A subscriber in JavaScript: prints each event once, and keeps the latest status of each message.

import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { parseArgs, promisify } from "node:util";

import kafka from "@confluentinc/kafka-javascript";
import { Kafka as binding } from "cloudevents";

const STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1";
const REJECTED_SCHEMA = "urn:sms-status-bridge:schema:rejected:1";
const MAX_RECORDS = 500;
const POLL_MS = 500;
const REQUEST_MS = 10_000;

// --- reading an event ------------------------------------------------------------------------

/** Read a record in either content mode. */
function eventOf(record) {
  // The SDK takes headers and key as text.
  const headers = {};
  for (const header of record.headers ?? [])
    for (const [name, value] of Object.entries(header)) headers[name.toLowerCase()] = String(value);
  return binding.toEvent({ key: record.key?.toString(), value: record.value?.toString(), headers });
}

/** What is kept of an event; of a dead letter only its identity. */
function stateOf({ source, id, dataschema, data }) {
  if (dataschema === REJECTED_SCHEMA) return { source, id };
  if (dataschema !== STATUS_SCHEMA) throw new Error(`unknown dataschema ${dataschema}`);
  const { id_sms, status, outcome, final, rank, changed_at, received_at } = data;
  return { source, id, id_sms, status, outcome, final, rank, changed_at, received_at };
}

// --- the latest status of a message ----------------------------------------------------------

/**
 * The rule: the higher rank, then the later time, then the greater id; null is lowest.
 * Times of this form compare as text.
 */
function outranks(came, held) {
  const [a, b] = [came, held].map(({ rank, changed_at, id }) => [rank ?? -1, changed_at ?? "", id]);
  const at = a.findIndex((value, index) => value !== b[index]);
  return at >= 0 && a[at] > b[at];
}

/** Whether the outcome stands: it is final, or nothing has outranked it for so long. */
function settled(state, now, patienceMs) {
  return state.final === true || now - Date.parse(state.received_at) >= patienceMs;
}

// --- what survives a restart -----------------------------------------------------------------

const keyOf = (...names) => JSON.stringify(names);

/**
 * The table, and the file that it is made of.
 *
 * The file has one line for each batch of records, with where to go on and the events that were
 * new. A line is there as a whole or does not count, so the two can never disagree.
 */
class Store {
  offsets = {}; // by topic/partition: the next record
  seen = new Set();
  latest = new Map();

  constructor(path) {
    closeSync(openSync(path, "a"));
    this.file = openSync(path, "r+");
    const content = readFileSync(path);
    const whole = content.lastIndexOf("\n") + 1; // then half a line of a writer that was killed
    for (const line of content.subarray(0, whole).toString().split("\n").slice(0, -1))
      this.#apply(JSON.parse(line));
    ftruncateSync(this.file, whole);
    this.end = whole;
  }

  /** Keep a batch of records: all of it or, if this is interrupted, nothing. */
  commit(offsets, states) {
    const line = Buffer.from(`${JSON.stringify({ offsets, states })}\n`);
    for (let written = 0; written < line.length; )
      written += writeSync(this.file, line, written, line.length - written, this.end + written);
    this.end += line.length;
    fsyncSync(this.file);
    this.#apply({ offsets, states });
  }

  #apply({ offsets, states }) {
    Object.assign(this.offsets, offsets);
    for (const state of states) {
      this.seen.add(keyOf(state.source, state.id));
      if (state.status === undefined) continue;
      const message = keyOf(state.source, state.id_sms);
      const held = this.latest.get(message);
      if (held === undefined || outranks(state, held)) this.latest.set(message, state);
    }
  }
}

// --- the program -----------------------------------------------------------------------------

const placeOf = ({ topic, partition }) => `${topic}/${partition}`;

/** To standard output, all of it: a pipe may take less at a time. */
function print(lines) {
  let rest = Buffer.from(lines.map((line) => `${line}\n`).join(""));
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

/**
 * Print the events that are new, and then keep them: after a crash some are printed again.
 * What must not happen twice belongs into the store's own transaction.
 */
function take(store, records) {
  const offsets = {};
  const fresh = new Map();
  const lines = [];
  for (const record of records) {
    offsets[placeOf(record)] = record.offset + 1;
    try {
      const event = eventOf(record);
      const state = stateOf(event);
      const identity = keyOf(state.source, state.id);
      if (store.seen.has(identity) || fresh.has(identity)) continue;
      fresh.set(identity, state);
      lines.push(JSON.stringify(event));
    } catch (error) {
      console.error(`passed over: ${placeOf(record)}@${record.offset}: ${error.message}`);
    }
  }
  print(lines);
  store.commit(offsets, [...fresh.values()]);
}

/**
 * Take all partitions of the topics, each from where the store has come to.
 * Returns, of each partition that is not yet read to its end, the end.
 */
async function assign(client, store, topics) {
  const watermarks = promisify(client.queryWatermarkOffsets.bind(client));
  const metadata = await promisify(client.getMetadata.bind(client))({ timeout: REQUEST_MS });
  const partitions = [];
  const unread = new Map();
  for (const { name: topic, partitions: found } of metadata.topics) {
    if (!topics.includes(topic)) continue;
    for (const { id: partition } of found) {
      const { lowOffset, highOffset } = await watermarks(topic, partition, REQUEST_MS);
      const place = placeOf({ topic, partition });
      const offset = Math.max(lowOffset, store.offsets[place] ?? 0);
      partitions.push({ topic, partition, offset });
      if (offset < highOffset) unread.set(place, highOffset);
    }
  }
  client.assign(partitions);
  return unread;
}

async function run({ brokers, topics, store: path, patience, "until-end": untilEnd }) {
  let stopped = false;
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => (stopped = true));
  const store = new Store(path);
  const client = new kafka.KafkaConsumer({
    "bootstrap.servers": brokers,
    "group.id": "unused: partitions are assigned, and nothing is committed",
    "enable.auto.commit": false,
  });
  await promisify(client.connect.bind(client))({});
  client.setDefaultConsumeTimeout(POLL_MS);
  const consume = promisify(client.consume.bind(client));
  const unread = await assign(client, store, topics.split(","));
  while (!stopped && !(untilEnd && unread.size === 0)) {
    const records = await consume(MAX_RECORDS);
    if (records.length > 0) take(store, records);
    for (const [place, end] of unread) if (store.offsets[place] >= end) unread.delete(place);
  }
  await promisify(client.disconnect.bind(client))();
  table(store, Number(patience) * 1000);
}

/** Print the latest status of each message. */
function table(store, patienceMs) {
  const now = Date.now();
  const rows = [...store.latest.values()];
  print(
    rows.map((state) =>
      JSON.stringify({ latest: { ...state, settled: settled(state, now, patienceMs) } }),
    ),
  );
}

const { values } = parseArgs({
  options: {
    brokers: { type: "string", default: "127.0.0.1:9092" }, // host:port, with commas between
    topics: { type: "string", default: "sms.status,sms.status.rejected" },
    store: { type: "string", default: "statuses.jsonl" }, // the file that survives a restart
    patience: { type: "string", default: "172800" }, // seconds until what is not final stands
    "until-end": { type: "boolean", default: false }, // stop at what is now the end of the topics
  },
});
await run(values);

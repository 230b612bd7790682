//! A subscriber with rdkafka in a consumer group: keeps every event once, and the latest status of
//! each message.

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use cloudevents::binding::rdkafka::MessageExt;
use cloudevents::{AttributesReader, Data, Event};
use postgres::{Client, NoTls};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

type Outcome<T> = Result<T, Box<dyn Error>>;

const STATUS_SCHEMA: &str = "urn:sms-status-bridge:schema:status:1";
const POLL: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Reads a record in either content mode.
fn state_of(record: &BorrowedMessage) -> Outcome<(Event, Value)> {
    // The SDK panics where either lacks its value.
    let headers = record.headers().ok_or("no headers")?;
    if record.payload().is_none() || headers.iter().any(|header| header.value.is_none()) {
        return Err("a header or the record without a value".into());
    }
    let event = record.to_event()?;
    if event.dataschema().map(|schema| schema.as_str()) != Some(STATUS_SCHEMA) {
        return Err("unknown dataschema".into());
    }
    let data: Value = match event.data().ok_or("no data")? {
        Data::Json(value) => value.clone(),
        Data::String(text) => serde_json::from_str(text)?,
        Data::Binary(bytes) => serde_json::from_slice(bytes)?,
    };
    if !data.is_object() {
        return Err("the data is no object".into());
    }
    Ok((event, data))
}

/// What is connected to again after a fault.
struct Database {
    url: String,
    client: Option<Client>,
}

impl Database {
    fn keep(&mut self, event: &Event, data: &Value) -> Result<(), postgres::Error> {
        let client = match &mut self.client {
            Some(client) if !client.is_closed() => client,
            held => held.insert(Client::connect(&self.url, NoTls)?),
        };
        let source = event.source().as_str();
        client.execute("SELECT keep_state($1, $2, $3)", &[&source, &event.id(), data])?;
        Ok(())
    }
}

/// Keeps what a record holds, and does not give up before it could: what comes later must not be
/// committed without it. False if the program was asked to stop.
fn take(database: &mut Database, record: &BorrowedMessage, stop: &AtomicBool) -> bool {
    let (event, data) = match state_of(record) {
        Ok(state) => state,
        Err(error) => {
            let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
            eprintln!("passed over: {topic}/{partition}@{offset}: {error}");
            return true;
        }
    };
    while let Err(error) = database.keep(&event, &data) {
        eprintln!("to be tried again: {error}");
        sleep(RETRY_AFTER);
        if stop.load(Ordering::Relaxed) {
            return false;
        }
    }
    true
}

fn main() -> Outcome<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, stop.clone())?;
    }
    let mut database = Database { url: env::var("DATABASE_URL")?, client: None };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", env::var("KAFKA_BROKERS")?)
        .set("group.id", env::var("KAFKA_GROUP")?)
        .set("auto.offset.reset", "earliest")
        // Commit, once a second, only what is stored: by default it is all that was polled.
        .set("enable.auto.offset.store", "false")
        .set("auto.commit.interval.ms", "1000")
        .create()?;
    consumer.subscribe(&[&env::var("KAFKA_TOPIC")?])?;
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            Some(Ok(record)) if take(&mut database, &record, &stop) => {
                if let Err(error) = consumer.store_offset_from_message(&record) {
                    eprintln!("the partition is another's now: {error}");
                }
            }
            Some(Err(error)) => eprintln!("{error}"),
            _ => {}
        }
    }
    Ok(()) // the consumer commits what is stored, and leaves the group
}

// A subscriber with NestJS: keeps every event once, and the latest status of each message.
import "reflect-metadata";

import { Controller, Logger, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import {
  Ctx,
  EventPattern,
  KafkaContext,
  type KafkaOptions,
  Transport,
} from "@nestjs/microservices";
import { type CloudEvent, Kafka, type KafkaMessage } from "cloudevents";
import pg from "pg";

const STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1";
const { DATABASE_URL, KAFKA_BROKERS = "", KAFKA_GROUP, KAFKA_TOPIC } = process.env;
const database = new pg.Pool({ connectionString: DATABASE_URL });
const log = new Logger("subscriber");
// Without a listener, a connection that breaks while nothing uses it would end the program.
database.on("error", (error) => log.warn(error));

type State = Record<string, unknown>;

function isObject(data: unknown): boolean {
  return typeof data === "object" && data !== null && !Array.isArray(data);
}

/** Read a record in either content mode; Nest has already made text of its headers. */
function stateOf(context: KafkaContext): CloudEvent<State> {
  const event = Kafka.toEvent<State>(context.getMessage() as unknown as KafkaMessage<State>);
  if (Array.isArray(event) || event.dataschema !== STATUS_SCHEMA || !isObject(event.data)) {
    throw new Error("not a state of this version");
  }
  return event as CloudEvent<State>;
}

@Controller()
class Subscriber {
  @EventPattern(KAFKA_TOPIC)
  async take(@Ctx() context: KafkaContext): Promise<void> {
    let event: CloudEvent<State>;
    try {
      event = stateOf(context);
    } catch (error) {
      const { offset } = context.getMessage();
      log.warn(`passed over: ${context.getTopic()}/${context.getPartition()}@${offset}: ${error}`);
      return;
    }
    // Whatever this throws makes the client read the record again.
    await database.query("SELECT keep_state($1, $2, $3)", [event.source, event.id, event.data]);
  }
}

@Module({ controllers: [Subscriber] })
class Application {}

const application = await NestFactory.createMicroservice<KafkaOptions>(Application, {
  transport: Transport.KAFKA,
  options: {
    client: { brokers: KAFKA_BROKERS.split(",") },
    consumer: { groupId: KAFKA_GROUP ?? "" },
    postfixId: "", // or else the group is called KAFKA_GROUP-server
    parser: { keepBinary: true }, // the SDK parses the value, by its content type
    subscribe: { fromBeginning: true },
  },
});
application.enableShutdownHooks();
await application.listen();

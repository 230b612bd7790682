package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.CloudEventData;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.ExponentialBackOff;

/** A subscriber with Spring Kafka: keeps every event once, and the latest status of each message. */
@SpringBootApplication
public class Subscriber {
  static final String STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1";

  static final ObjectMapper JSON = new ObjectMapper();

  private final JdbcTemplate database;

  Subscriber(JdbcTemplate database) {
    this.database = database;
  }

  @KafkaListener(topics = "${KAFKA_TOPIC}")
  void take(CloudEvent event) throws IOException {
    CloudEventData data = event.getData();
    if (!STATUS_SCHEMA.equals(String.valueOf(event.getDataSchema()))
        || data == null
        || !JSON.readTree(data.toBytes()).isObject()) {
      throw new IOException("not a state of this version");
    }
    database.queryForObject(
        "SELECT keep_state(?, ?, ?::jsonb)",
        Boolean.class,
        event.getSource().toString(),
        event.getId(),
        new String(data.toBytes(), StandardCharsets.UTF_8));
  }

  /** What cannot be kept is tried until it can: the default drops a record after ten attempts. */
  @Bean
  DefaultErrorHandler errors() {
    ExponentialBackOff backOff = new ExponentialBackOff(1000, 2);
    backOff.setMaxInterval(30_000);
    DefaultErrorHandler handler = new DefaultErrorHandler(backOff);
    handler.addNotRetryableExceptions(IOException.class); // passed over, and logged
    return handler;
  }

  public static void main(String[] arguments) {
    SpringApplication.run(Subscriber.class, arguments);
  }
}

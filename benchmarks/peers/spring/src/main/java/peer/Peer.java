package peer;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.time.Instant;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.HttpStatus;
import org.springframework.http.ResponseEntity;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;
import tools.jackson.dataformat.xml.annotation.JacksonXmlElementWrapper;
import tools.jackson.dataformat.xml.annotation.JacksonXmlProperty;
import tools.jackson.dataformat.xml.annotation.JacksonXmlRootElement;
import tools.jackson.dataformat.xml.annotation.JacksonXmlText;

/**
 * A plain gateway: one event and one send a state; it answers with the ids once the broker has
 * acknowledged all of them.
 */
@SpringBootApplication
@RestController
public class Peer {
  private static final long PUBLISH_TIMEOUT_SECONDS = 4;

  private final KafkaTemplate<String, Event> kafka;

  Peer(KafkaTemplate<String, Event> kafka) {
    this.kafka = kafka;
  }

  public static void main(String[] args) {
    SpringApplication.run(Peer.class, args);
  }

  @PostMapping(path = "/webhook", consumes = "text/xml", produces = "text/xml")
  CompletableFuture<ResponseEntity<Answer>> post(@RequestBody Document document) {
    Instant now = Instant.now();
    CompletableFuture<?>[] sends = document.states.stream()
        .map(state -> kafka.sendDefault(state.id, Event.of(state, now)))
        .toArray(CompletableFuture[]::new);
    Answer answer = new Answer(document.states.stream().map(state -> state.id).toList());
    return CompletableFuture.allOf(sends)
        .orTimeout(PUBLISH_TIMEOUT_SECONDS, TimeUnit.SECONDS)
        .thenApply(published -> ResponseEntity.ok(answer))
        .exceptionally(failed -> ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE).build());
  }

  @JsonIgnoreProperties(ignoreUnknown = true)
  static class Document {
    @JacksonXmlElementWrapper(useWrapping = false)
    @JacksonXmlProperty(localName = "state")
    public List<State> states = List.of();
  }

  @JsonIgnoreProperties(ignoreUnknown = true)
  @JsonInclude(JsonInclude.Include.NON_EMPTY)
  static class State {
    @JacksonXmlProperty(isAttribute = true, localName = "id_sms")
    @JsonProperty("id_sms")
    public String id;

    @JacksonXmlProperty(isAttribute = true)
    public String time;

    @JacksonXmlProperty(isAttribute = true)
    public String sms;

    @JacksonXmlProperty(isAttribute = true)
    public String viber;

    @JacksonXmlText
    public String status;
  }

  record Event(
      String specversion, String id, String source, String type, String subject, Instant time,
      String datacontenttype, State data) {

    static Event of(State state, Instant now) {
      return new Event("1.0", UUID.randomUUID().toString(), "urn:example:sms:main",
          "com.example.messaging.status." + state.status.trim(), state.id, now, "application/json",
          state);
    }
  }

  @JacksonXmlRootElement(localName = "response")
  record Answer(
      @JacksonXmlElementWrapper(useWrapping = false) @JacksonXmlProperty(localName = "id_sms")
      List<String> ids) {}
}

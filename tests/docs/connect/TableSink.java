import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkConnector;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;

/**
 * Stands in for a JDBC sink: as those do, it takes
 * only records with a schema of plain columns, makes the table by the first of them, and upserts.
 */
public class TableSink extends SinkConnector {
  private Map<String, String> settings;

  @Override
  public void start(Map<String, String> settings) {
    this.settings = settings;
  }

  @Override
  public Class<? extends Task> taskClass() {
    return Writer.class;
  }

  @Override
  public List<Map<String, String>> taskConfigs(int most) {
    return List.of(settings);
  }

  @Override
  public void stop() {}

  @Override
  public ConfigDef config() {
    return new ConfigDef();
  }

  @Override
  public String version() {
    return "1";
  }

  public static class Writer extends SinkTask {
    private Connection database;
    private String table;
    private String keys;

    @Override
    public void start(Map<String, String> settings) {
      table = settings.get("table.name.format");
      keys = settings.get("pk.fields");
      try {
        database = DriverManager.getConnection(settings.get("connection.url"));
      } catch (SQLException e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public void put(Collection<SinkRecord> records) {
      try {
        for (SinkRecord each : records) {
          if (!(each.value() instanceof Struct row)) {
            throw new DataException("no schema: " + each);
          }
          write(row);
        }
      } catch (SQLException e) {
        throw new IllegalStateException(e);
      }
    }

    private void write(Struct row) throws SQLException {
      List<Field> fields = row.schema().fields();
      String columns = fields.stream().map(TableSink::column).collect(Collectors.joining(", "));
      String names = fields.stream().map(Field::name).collect(Collectors.joining(", "));
      String set = fields.stream()
          .map(field -> field.name() + " = excluded." + field.name())
          .collect(Collectors.joining(", "));
      String marks = String.join(", ", Collections.nCopies(fields.size(), "?"));
      try (var make = database.createStatement();
          var upsert = database.prepareStatement("INSERT INTO " + table + " (" + names + ") VALUES ("
              + marks + ") ON CONFLICT (" + keys + ") DO UPDATE SET " + set)) {
        make.execute("CREATE TABLE IF NOT EXISTS " + table + " (" + columns + ", PRIMARY KEY ("
            + keys + "))");
        List<Object> values = new ArrayList<>();
        fields.forEach(field -> values.add(row.get(field)));
        for (int at = 0; at < values.size(); at++) {
          upsert.setObject(at + 1, values.get(at));
        }
        upsert.execute();
      }
    }

    @Override
    public void stop() {}

    @Override
    public String version() {
      return "1";
    }
  }

  private static String column(Field field) {
    Schema schema = field.schema();
    String type = switch (schema.type()) {
      case STRING -> "text";
      case BOOLEAN -> "boolean";
      case INT32 -> "integer";
      default -> throw new DataException("no plain column: " + field);
    };
    return field.name() + " " + type + (schema.isOptional() ? "" : " NOT NULL");
  }
}

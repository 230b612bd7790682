import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;

/**
 * Reads SQL statements, and writes the rows that the last one ends with, fields between tabs.
 *
 * <p>Every other row of the changelog is taken back by a later one.
 */
class Sql {
    public static void main(String[] arguments) throws Exception {
        var text = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        var tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        tables.getConfig().set("parallelism.default", "1");
        var rows = new LinkedHashMap<String, Integer>();
        for (var statement : text.split(";")) {
            if (statement.isBlank()) continue;
            var result = tables.executeSql(statement);
            if (!statement.stripLeading().startsWith("SELECT")) continue;
            try (var changes = result.collect()) {
                while (changes.hasNext()) {
                    var row = changes.next();
                    var sign = switch (row.getKind()) {
                        case INSERT, UPDATE_AFTER -> 1;
                        case DELETE, UPDATE_BEFORE -> -1;
                    };
                    rows.merge(line(row), sign, Integer::sum);
                }
            }
        }
        for (var row : rows.entrySet()) {
            for (int n = 0; n < row.getValue(); n++) System.out.println(row.getKey());
        }
    }

    private static String line(Row row) {
        return IntStream.range(0, row.getArity())
            .mapToObj(n -> String.valueOf(row.getField(n)))
            .collect(Collectors.joining("\t"));
    }
}

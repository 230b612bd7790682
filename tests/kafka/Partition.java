import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Reads lines of a number of partitions, a space and a key; writes the key's partition for each. */
class Partition {
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            var parts = line.split(" ", 2);
            var key = parts[1].getBytes(StandardCharsets.UTF_8);
            System.out.println(
                BuiltInPartitioner.partitionForKey(key, Integer.parseInt(parts[0])));
        }
    }
}

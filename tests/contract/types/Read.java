// Reads events, one a line, and writes them again.

import com.example.statuses.Converter;
import com.example.statuses.SMSStatusEvent;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

public class Read {
    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            SMSStatusEvent event = Converter.fromJsonString(line);
            Boolean last = event.getData().getSMSStatusFinal();
            event.getData().setSMSStatusFinal(last);
            out.println(Converter.toJsonString(event));
        }
    }
}

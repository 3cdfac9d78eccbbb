import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Flink SQL: runs the statements of job.sql on a cluster inside this process, with one slot.
 *
 * Tuned by its guide: objects reused, mini-batches, a local aggregation before the keyed exchange. The exchange splits
 * the job into two threads also where parallelism is 1; without the local aggregation every event passes through it.
 * The window is part of the key: TUMBLE makes the same counts, later and for more processor time.
 *
 * Arguments: bootstrap servers, topic, group, JDBC address, user, folder, schema file, SQL file.
 */
public class Job {
    private static final Map<String, String> SETTINGS = Map.of(
            "execution.target", "local",
            "parallelism.default", "1",
            // An error ends the process; by default Flink would try again for ever.
            "restart-strategy.type", "disable",
            "pipeline.object-reuse", "true",
            "execution.checkpointing.interval", "1 s",
            "table.exec.mini-batch.enabled", "true",
            "table.exec.mini-batch.allow-latency", "100 ms",
            "table.exec.mini-batch.size", "50000",
            "table.optimizer.agg-phase-strategy", "TWO_PHASE");
    private static boolean begun;

    /** Says that the first record is here; the first call counts. */
    static void begin() {
        if (!begun) {
            begun = true;
            System.out.println("BEGIN " + System.currentTimeMillis() / 1000.0);
            System.out.flush();
        }
    }

    public static void main(String[] given) throws Exception {
        Configuration settings = new Configuration();
        SETTINGS.forEach(settings::setString);
        settings.setString("execution.checkpointing.dir", Path.of(given[5]).toUri().toString());
        TableEnvironment tables = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        Map<String, String> values = Map.of(
                "servers", given[0],
                "topic", given[1],
                "group", given[2],
                "url", given[3],
                "user", given[4],
                "password", System.getenv().getOrDefault("PGPASSWORD", ""),
                "schema", Files.readString(Path.of(given[6])),
                "login", login());
        String sql = Files.readString(Path.of(given[7])).replaceAll("(?m)^--.*$", "");
        for (Map.Entry<String, String> one : values.entrySet()) {
            String value = one.getKey().equals("login") ? one.getValue() : one.getValue().replace("'", "''");
            sql = sql.replace("${" + one.getKey() + "}", value);
        }
        TableResult last = null;
        for (String statement : sql.split(";\\n")) {
            last = tables.executeSql(statement.strip());
        }
        last.await();
    }

    /** Table options by which the consumer logs in, where Kafka wants that. The connector has Kafka's classes renamed. */
    private static String login() {
        if (System.getenv("KAFKA_JAAS") == null) {
            return "";
        }
        String jaas = "org.apache.flink.kafka.shaded." + System.getenv("KAFKA_JAAS");
        return Stream.of(
                        ", 'properties.security.protocol' = '" + System.getenv("KAFKA_PROTOCOL") + "'",
                        ", 'properties.sasl.mechanism' = '" + System.getenv("KAFKA_MECHANISM") + "'",
                        ", 'properties.sasl.jaas.config' = '" + jaas.replace("'", "''") + "'")
                .reduce("", String::concat);
    }
}

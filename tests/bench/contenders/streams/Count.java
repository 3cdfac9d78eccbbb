import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Kafka Streams with its Processor API: a processor adds up in memory and upserts every 100 ms, on one thread.
 *
 * The DSL's groupBy().windowedBy().count() would send every event through Kafka once more, since the key changes.
 * Arguments: bootstrap servers, topic, group, JDBC address, user, number of events, folder, schema file.
 */
public class Count {
    static final long WINDOW_MS = 60_000;
    static final char SEPARATOR = '\u001f';
    static final String UPSERT =
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                    + "ON CONFLICT (window_ms, step, os, browser, app_version, phase, status) "
                    + "DO UPDATE SET n = counts.n + excluded.n";
    static long left;
    static boolean begun;

    static void say(String what) {
        System.out.println(what + " " + System.currentTimeMillis() / 1000.0);
        System.out.flush();
    }

    static class Counter implements Processor<byte[], byte[], Void, Void> {
        private final GenericDatumReader<GenericRecord> reader;
        private final Map<String, Long> counts = new HashMap<>();
        private final Connection connection;
        private ProcessorContext<Void, Void> context;
        private BinaryDecoder decoder;
        private GenericRecord event;

        Counter(Schema schema, Connection connection) {
            this.reader = new GenericDatumReader<>(schema);
            this.connection = connection;
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            this.context = context;
            context.schedule(Duration.ofMillis(100), PunctuationType.WALL_CLOCK_TIME, now -> write());
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (!begun) {
                begun = true;
                say("BEGIN");
            }
            try {
                byte[] value = record.value();
                int header = value[0] == (byte) 0xC3 ? 10 : 5;
                decoder = DecoderFactory.get().binaryDecoder(value, header, value.length - header, decoder);
                event = reader.read(event, decoder);
            } catch (java.io.IOException error) {
                throw new RuntimeException(error);
            }
            long ts = (Long) event.get("ts");
            Object status = event.get("status");
            String key = (ts - ts % WINDOW_MS) + "" + SEPARATOR + event.get("step") + SEPARATOR + event.get("os")
                    + SEPARATOR + event.get("browser") + SEPARATOR + event.get("app_version") + SEPARATOR
                    + event.get("phase") + SEPARATOR + (status == null ? "" : status);
            counts.merge(key, 1L, Long::sum);
        }

        private void write() {
            if (counts.isEmpty()) {
                return;
            }
            long written = 0;
            try (PreparedStatement statement = connection.prepareStatement(UPSERT)) {
                for (Map.Entry<String, Long> one : new TreeMap<>(counts).entrySet()) {
                    String[] key = one.getKey().split(String.valueOf(SEPARATOR), -1);
                    statement.setLong(1, Long.parseLong(key[0]));
                    for (int column = 1; column < 7; column++) {
                        statement.setString(column + 1, key[column]);
                    }
                    statement.setLong(8, one.getValue());
                    statement.addBatch();
                    written += one.getValue();
                }
                statement.executeBatch();
                connection.commit();
            } catch (java.sql.SQLException error) {
                throw new RuntimeException(error);
            }
            counts.clear();
            context.commit();
            left -= written;
            if (left == 0) {
                say("END");
            }
        }
    }

    public static void main(String[] given) throws Exception {
        left = Long.parseLong(given[5]);
        Schema schema = new Schema.Parser().parse(Files.readString(Path.of(given[7])));
        Properties login = new Properties();
        login.setProperty("user", given[4]);
        login.setProperty("password", System.getenv().getOrDefault("PGPASSWORD", ""));
        login.setProperty("reWriteBatchedInserts", "true");
        Connection connection = DriverManager.getConnection(given[3], login);
        connection.setAutoCommit(false);
        Topology topology = new Topology();
        topology.addSource("in", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), given[1]);
        topology.addProcessor("count", () -> new Counter(schema, connection), "in");
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, given[2]);
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given[0]);
        if (System.getenv("KAFKA_JAAS") != null) {
            properties.put("security.protocol", System.getenv("KAFKA_PROTOCOL"));
            properties.put("sasl.mechanism", System.getenv("KAFKA_MECHANISM"));
            properties.put("sasl.jaas.config", System.getenv("KAFKA_JAAS"));
        }
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, given[6]);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        properties.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        properties.put(StreamsConfig.consumerPrefix("max.poll.records"), 5000);
        KafkaStreams streams = new KafkaStreams(topology, properties);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}

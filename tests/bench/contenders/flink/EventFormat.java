import java.io.IOException;
import java.util.Arrays;
import java.util.Set;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.util.Utf8;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.RowType;

/**
 * Decodes events of both framings: 'format' = 'funnel-event'.
 *
 * Flink's own 'avro-confluent' accepts Confluent's framing only. The columns of the table name fields of the event; a
 * column is BIGINT or STRING.
 */
public class EventFormat implements DeserializationFormatFactory {
    private static final ConfigOption<String> SCHEMA = ConfigOptions.key("schema").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "funnel-event";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(SCHEMA);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        String schema = options.get(SCHEMA);
        return new DecodingFormat<>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(
                    DynamicTableSource.Context context, DataType columns) {
                return new Decoder(schema, (RowType) columns.getLogicalType(), context.createTypeInformation(columns));
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    private static class Decoder implements DeserializationSchema<RowData> {
        private static final long serialVersionUID = 1;
        private final String schema;
        private final RowType columns;
        private final TypeInformation<RowData> type;
        private transient GenericDatumReader<GenericRecord> reader;
        private transient int[] positions;
        private transient boolean[] strings;
        private transient BinaryDecoder decoder;
        private transient GenericRecord event;

        Decoder(String schema, RowType columns, TypeInformation<RowData> type) {
            this.schema = schema;
            this.columns = columns;
            this.type = type;
        }

        @Override
        public void open(InitializationContext context) {
            Schema parsed = new Schema.Parser().parse(schema);
            reader = new GenericDatumReader<>(parsed);
            positions = columns.getFieldNames().stream().mapToInt(name -> parsed.getField(name).pos()).toArray();
            strings = new boolean[positions.length];
            for (int column = 0; column < strings.length; column++) {
                strings[column] = columns.getTypeAt(column).is(LogicalTypeRoot.VARCHAR);
            }
        }

        @Override
        public RowData deserialize(byte[] value) throws IOException {
            Job.begin();
            int header = value[0] == (byte) 0xC3 ? 10 : 5;
            decoder = DecoderFactory.get().binaryDecoder(value, header, value.length - header, decoder);
            event = reader.read(event, decoder);
            GenericRowData row = new GenericRowData(positions.length);
            for (int column = 0; column < positions.length; column++) {
                Object field = event.get(positions[column]);
                row.setField(column, strings[column] ? text(field) : field);
            }
            return row;
        }

        /** A copy, since the next event reuses the bytes. */
        private static StringData text(Object field) {
            if (field instanceof Utf8) {
                Utf8 utf8 = (Utf8) field;
                return StringData.fromBytes(Arrays.copyOf(utf8.getBytes(), utf8.getByteLength()));
            }
            return field == null ? null : StringData.fromString(field.toString());
        }

        @Override
        public boolean isEndOfStream(RowData row) {
            return false;
        }

        @Override
        public TypeInformation<RowData> getProducedType() {
            return type;
        }
    }
}

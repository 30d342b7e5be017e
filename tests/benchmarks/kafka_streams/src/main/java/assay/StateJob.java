package assay;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The state-only job: per user a count and the last 20 items in RocksDB with a changelog, one output record an event. */
public final class StateJob {
    private static final int ITEMS = 20;
    private static final String STORE = "profiles";

    private StateJob() {}

    /** Arguments: bootstrap servers, application id, source, sink, state folder, processing guarantee; then settings as name=value. */
    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[5]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 2000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        for (String setting : Arrays.asList(arguments).subList(6, arguments.length)) {
            String[] parts = setting.split("=", 2);
            settings.put(parts[0], parts[1]);
        }
        Topology topology = new Topology();
        topology.addSource("source", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), arguments[2])
                .addProcessor("count", Count::new, "source")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray())
                                .withCachingEnabled(),
                        "count")
                .addSink("sink", arguments[3], Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "count");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setGlobalStateRestoreListener(new Restores());
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    /** Says how long each partition's state took to come back from the changelog. */
    private static final class Restores implements StateRestoreListener {
        private final Map<TopicPartition, Long> begun = new ConcurrentHashMap<>();

        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            begun.put(partition, System.nanoTime());
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long to, long count) {}

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            double seconds = (System.nanoTime() - begun.get(partition)) / 1e9;
            System.err.printf(Locale.ROOT, "%s: open, %d changelog records in %.2f s%n", partition, total, seconds);
        }
    }

    private static final class Count implements Processor<byte[], byte[], byte[], byte[]> {
        private final ObjectMapper json = new ObjectMapper();
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            this.store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                JsonNode event = json.readTree(record.value());
                byte[] stored = store.get(record.key());
                ObjectNode profile = stored == null ? empty() : (ObjectNode) json.readTree(stored);
                profile.put("count", profile.get("count").asLong() + 1);
                ArrayNode items = (ArrayNode) profile.get("items");
                items.add(event.get("sku"));
                if (items.size() > ITEMS) {
                    items.remove(0);
                }
                store.put(record.key(), json.writeValueAsBytes(profile));
                ObjectNode output = json.createObjectNode();
                output.set("user", event.get("user_id"));
                output.set("count", profile.get("count"));
                output.set("items", items);
                context.forward(record.withValue(json.writeValueAsBytes(output)));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private ObjectNode empty() {
            ObjectNode profile = json.createObjectNode();
            profile.put("count", 0);
            profile.putArray("items");
            return profile;
        }
    }
}

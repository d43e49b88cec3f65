// A member of a consumer group: Kafka's own Java client, told what to do by lines on its standard input.
//
//   java Member TOPIC NAME=VALUE…     the settings of the consumer
//
//   read N    reads N records, commits behind the last of them, and says `read`
//   commit    goes on to the end, commits its positions, markers of transactions included, and says `committed`
//   block     does not poll any more, as one whose work takes too long; says `blocked`
//   go        polls again
//   leave     leaves the group, and ends
//
// Between commands it polls with everything paused: it is alive and reads nothing. It says `assigned PARTITIONS` whenever it
// is given some. It ends with its standard input.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.LinkedBlockingQueue;

import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Member implements ConsumerRebalanceListener {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private long wanted = 0;

    private Member(Properties settings) {
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", "1");
        for (int at = 1; at < arguments.length; at++) {
            String[] setting = arguments[at].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        LinkedBlockingQueue<String> commands = new LinkedBlockingQueue<>();
        Thread reader = new Thread(() -> {
            try {
                BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    commands.add(line);
                }
            } catch (Exception ended) {
                // As good as the end of the input.
            }
            Runtime.getRuntime().halt(0);
        });
        reader.setDaemon(true);
        reader.start();
        new Member(settings).run(arguments[0], commands);
    }

    private void run(String topic, LinkedBlockingQueue<String> commands) throws Exception {
        consumer.subscribe(List.of(topic), this);
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        while (true) {
            String command = commands.poll();
            if (command != null && command.startsWith("read ")) {
                wanted = Long.parseLong(command.substring(5));
                consumer.resume(consumer.assignment());
            } else if ("commit".equals(command)) {
                goToTheEnd();
                consumer.commitSync();
                say("committed");
            } else if ("block".equals(command)) {
                say("blocked");
                while (!"go".equals(commands.take())) { }
            } else if ("leave".equals(command)) {
                consumer.close();
                say("left");
                return;
            }
            for (ConsumerRecord<byte[], byte[]> found : consumer.poll(Duration.ofMillis(50))) {
                read.put(new TopicPartition(found.topic(), found.partition()), new OffsetAndMetadata(found.offset() + 1));
                wanted -= 1;
            }
            if (wanted == 0 && !read.isEmpty()) {
                consumer.pause(consumer.assignment());
                consumer.commitSync(read);
                read.clear();
                say("read");
            }
        }
    }

    /** Where no records are left, positions advance over what else there is. */
    private void goToTheEnd() {
        consumer.resume(consumer.assignment());
        Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
        while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
            consumer.poll(Duration.ofMillis(50));
        }
        consumer.pause(consumer.assignment());
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        if (wanted == 0) {
            consumer.pause(partitions);
        }
        say("assigned " + partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

    private static void say(String what) {
        System.out.println("> " + what);
        System.out.flush();
    }
}

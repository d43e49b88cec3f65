// Record batches as Apache Kafka's own Java client writes and reads them: the other side of kafkeep's record tests.
//
// It needs kafka-clients 4.1.0 and its codecs (lz4-java, snappy-java, zstd-jni, slf4j-api) in one directory, and a JDK of
// version 17 or later, which compiles this file itself:
//
//   java -cp 'LIBS/*' tests/golden/java/GoldenBatches.java write tests/golden/batches   writes the golden files anew
//   java -cp 'LIBS/*' tests/golden/java/GoldenBatches.java dump DIRECTORY               prints what it reads in *.bin
//
// `dump` prints a JSON object a line: one for each batch, with what its header says, then one for each of its records. It
// checks every CRC and fails on a batch that Kafka would not accept from a disk. Bytes are base64; longer ones are told by
// their length and SHA-256. Everything is made from fixed values, so that writing twice gives the same files.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.DefaultRecordBatch;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter.BatchRetention;
import org.apache.kafka.common.record.MemoryRecords.RecordFilter.BatchRetentionResult;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.BufferSupplier;
import org.apache.kafka.common.utils.Utils;

public class GoldenBatches {
    static final long DAY = 86_400_000L;
    static final long T = 1_700_000_000_000L;
    static final byte[] EMPTY = {};
    static final byte[] NOT_UTF8 = {(byte) 0xff, (byte) 0xfe, 0, (byte) 0xc3, 0x28};

    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[1]);
        switch (arguments[0]) {
            case "write" -> {
                Files.createDirectories(directory);
                write(directory);
                Files.writeString(directory.resolve("batches.jsonl"), dump(directory));
                Files.writeString(directory.resolve("partitions.jsonl"), partitions());
            }
            case "dump" -> System.out.print(dump(directory));
            default -> throw new IllegalArgumentException("write or dump");
        }
    }

    // --- writing ---

    static void write(Path directory) throws Exception {
        for (CompressionType codec : CompressionType.values()) {
            put(directory, "shapes-" + codec, batch(codec, 100, 7, shapes()));
            put(directory, "append-time-" + codec, appended(batch(codec, 0, 0, shapes())));
            put(directory, "compacted-" + codec, compacted(codec));
            if (codec != CompressionType.NONE)
                put(directory, "many-" + codec, batch(codec, 5_000_000_000L, 1, many()));
            if (codec != CompressionType.ZSTD)
                for (byte magic = 0; magic < 2; magic++)
                    put(directory, "v" + magic + "-" + codec, old(magic, codec));
        }
        put(directory, "incompressible-lz4", batch(CompressionType.LZ4, 0, 0, random(70_000)));
        put(directory, "incompressible-snappy", batch(CompressionType.SNAPPY, 0, 0, random(33_000)));
        put(directory, "extreme-timestamps", batch(CompressionType.NONE, 0, 0,
            record(-1, "none"), record(0, "epoch"), record(1, "one"), record(Long.MAX_VALUE, "last")));
        put(directory, "transactions", transactions());
        put(directory, "emptied", emptied());
        put(directory, "leader-change", leaderChange());
    }

    static void put(Path directory, String name, ByteBuffer bytes) throws Exception {
        byte[] copy = new byte[bytes.remaining()];
        bytes.get(copy);
        Files.write(directory.resolve(name + ".bin"), copy);
    }

    static SimpleRecord record(long timestamp, String value) {
        return new SimpleRecord(timestamp, null, value.getBytes(StandardCharsets.UTF_8));
    }

    static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    /** Every way in which a record can be unusual. */
    static SimpleRecord[] shapes() {
        byte[] key = "key".getBytes(StandardCharsets.UTF_8);
        byte[] value = "value ".repeat(20).getBytes(StandardCharsets.UTF_8);
        return new SimpleRecord[] {
            new SimpleRecord(T, key, value),
            new SimpleRecord(T + 1, (byte[]) null, null),
            new SimpleRecord(T + 1, EMPTY, EMPTY),
            new SimpleRecord(T, key, null),
            new SimpleRecord(T, null, value),
            new SimpleRecord(T - 5, EMPTY, null),
            new SimpleRecord(-1, key, EMPTY),
            new SimpleRecord(0, NOT_UTF8, NOT_UTF8),
            new SimpleRecord(1, key, value),
            // Deltas beyond 32 bits, both ways.
            new SimpleRecord(T + 30 * DAY, key, value),
            new SimpleRecord(T - 400 * DAY, key, value),
            new SimpleRecord(T, key, value, new Header[] {
                header("twice", "1".getBytes()), header("once", "2".getBytes()), header("twice", "3".getBytes()),
                header("twice", "1".getBytes())}),
            new SimpleRecord(T, key, value, new Header[] {
                header("null", null), header("empty", EMPTY), header("", "no name".getBytes()), header("", null)}),
            new SimpleRecord(T, key, value, new Header[] {
                header("binary", NOT_UTF8), header("\u043a\u043b\u044e\u0447 \ud83d\udd11", EMPTY)}),
            new SimpleRecord(T + 2, "x".repeat(64).getBytes(), "y".repeat(8192).getBytes()),
        };
    }

    /** Several blocks of 32 and of 64 KiB. */
    static SimpleRecord[] many() {
        SimpleRecord[] records = new SimpleRecord[64];
        for (int i = 0; i < records.length; i++)
            records[i] = new SimpleRecord(T + i * 10L, ("k" + i % 7).getBytes(), (i + " some text ".repeat(280) + i).getBytes());
        return records;
    }

    static SimpleRecord[] random(int length) {
        byte[] value = new byte[length];
        new Random(4711).nextBytes(value);
        return new SimpleRecord[] {record(T, "before"), new SimpleRecord(T, null, value), record(T, "behind")};
    }

    static ByteBuffer batch(CompressionType codec, long baseOffset, int leaderEpoch, SimpleRecord... records) {
        return batch(codec, baseOffset, leaderEpoch, -1, (short) -1, -1, false, records);
    }

    /** As a leader would have appended it. */
    static ByteBuffer batch(CompressionType codec, long baseOffset, int leaderEpoch, long producerId, short epoch,
                            int sequence, boolean transactional, SimpleRecord... records) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.CURRENT_MAGIC_VALUE,
            Compression.of(codec).build(), TimestampType.CREATE_TIME, baseOffset, -1L, producerId, epoch, sequence,
            transactional, leaderEpoch);
        for (SimpleRecord record : records)
            builder.append(record);
        return builder.build().buffer().duplicate();
    }

    /** The broker writes its clock into the header alone: the records keep the producer's timestamps, unseen. */
    static ByteBuffer appended(ByteBuffer bytes) {
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(bytes).batches())
            batch.setMaxTimestamp(TimestampType.LOG_APPEND_TIME, T + 12_345);
        return bytes;
    }

    static ByteBuffer joined(ByteBuffer... parts) {
        ByteBuffer all = ByteBuffer.allocate(Stream.of(parts).mapToInt(ByteBuffer::remaining).sum());
        for (ByteBuffer part : parts)
            all.put(part);
        return all.flip();
    }

    static ByteBuffer transactions() {
        long open = 4001, aborted = 4002;
        return joined(
            batch(CompressionType.NONE, 0, 3, open, (short) 0, 0, true, record(T, "a"), record(T, "b")),
            batch(CompressionType.ZSTD, 2, 3, aborted, (short) 9, 2147483646, true, record(T, "c"), record(T, "d"), record(T, "e")),
            batch(CompressionType.NONE, 5, 3, 4003, (short) 1, 17, false, record(T, "idempotent")),
            MemoryRecords.withEndTransactionMarker(6, T + 1, 3, open, (short) 0,
                new EndTransactionMarker(ControlRecordType.COMMIT, 5)).buffer(),
            MemoryRecords.withEndTransactionMarker(7, T + 2, 3, aborted, (short) 9,
                new EndTransactionMarker(ControlRecordType.ABORT, 6)).buffer());
    }

    /** What the log cleaner leaves, which sets the delete horizon where it keeps tombstones. */
    static ByteBuffer cleaned(ByteBuffer bytes, BatchRetention retention, Predicate<Record> keep) {
        RecordFilter filter = new RecordFilter(T + 10 * DAY, DAY) {
            @Override
            protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(retention, batch.isControlBatch());
            }

            @Override
            protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                return keep.test(record);
            }
        };
        MemoryRecords.FilterResult result = MemoryRecords.readableRecords(bytes)
            .filterTo(filter, ByteBuffer.allocate(1 << 20), BufferSupplier.create());
        return result.outputBuffer().flip();
    }

    static ByteBuffer compacted(CompressionType codec) {
        ByteBuffer first = batch(codec, 40, 2, 77, (short) 3, 1000, false, shapes());
        ByteBuffer second = batch(codec, 60, 2, many());
        return joined(
            // Holes at the front, in the middle and at the end, tombstones among what is left.
            cleaned(first, BatchRetention.RETAIN_EMPTY, record -> record.offset() % 5 == 1 || record.offset() == 43),
            cleaned(second, BatchRetention.DELETE_EMPTY, record -> record.offset() % 20 == 19));
    }

    static ByteBuffer emptied() {
        ByteBuffer data = batch(CompressionType.GZIP, 10, 4, 55, (short) 2, 30, false, record(T, "a"), record(T, "b"));
        ByteBuffer append = appended(batch(CompressionType.NONE, 12, 4, 56, (short) 2, 0, true, record(T, "c")));
        ByteBuffer marker = MemoryRecords.withEndTransactionMarker(13, T + 1, 4, 56, (short) 2,
            new EndTransactionMarker(ControlRecordType.COMMIT, 1)).buffer();
        return joined(
            cleaned(joined(data, append, marker), BatchRetention.RETAIN_EMPTY, record -> false),
            batch(CompressionType.NONE, 14, 4, record(T, "still here")));
    }

    static ByteBuffer leaderChange() {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1024), RecordBatch.CURRENT_MAGIC_VALUE,
            Compression.NONE, TimestampType.CREATE_TIME, 3, T, -1, (short) -1, -1, false, true, 5, 1024);
        builder.appendLeaderChangeMessage(T, new org.apache.kafka.common.message.LeaderChangeMessage().setLeaderId(1));
        return builder.build().buffer().duplicate();
    }

    /** Message formats from before Kafka 0.11. */
    static ByteBuffer old(byte magic, CompressionType codec) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(4096), magic, Compression.of(codec).build(),
            magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.CREATE_TIME, 20);
        for (int i = 0; i < 3; i++)
            builder.append(magic == 0 ? -1 : T + i, "key".getBytes(), ("old " + i).getBytes());
        return builder.build().buffer().duplicate();
    }

    // --- reading ---

    static String dump(Path directory) throws Exception {
        List<Path> files;
        try (Stream<Path> found = Files.list(directory)) {
            files = found.filter(file -> file.toString().endsWith(".bin")).sorted().collect(Collectors.toList());
        }
        StringBuilder out = new StringBuilder();
        for (Path file : files) {
            ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file));
            String name = file.getFileName().toString().replace(".bin", "");
            int read = 0;
            for (RecordBatch batch : MemoryRecords.readableRecords(bytes).batches()) {
                dump(name, batch, out);
                read += batch.sizeInBytes();
            }
            if (read != bytes.limit())
                throw new IllegalStateException(file + ": only " + read + " bytes are whole batches");
        }
        return out.toString();
    }

    static void dump(String file, RecordBatch batch, StringBuilder out) throws Exception {
        batch.ensureValid();
        out.append("{\"file\":\"").append(file).append("\",\"magic\":").append(batch.magic())
            .append(",\"base_offset\":").append(batch.baseOffset()).append(",\"last_offset\":").append(batch.lastOffset())
            .append(",\"next_offset\":").append(batch.nextOffset()).append(",\"size\":").append(batch.sizeInBytes());
        if (batch instanceof DefaultRecordBatch)
            out.append(",\"count\":").append(batch.countOrNull()).append(",\"leader_epoch\":").append(batch.partitionLeaderEpoch())
                .append(",\"crc\":").append(batch.checksum()).append(",\"compression\":\"").append(batch.compressionType().name)
                .append("\",\"append_time\":").append(batch.timestampType() == TimestampType.LOG_APPEND_TIME)
                .append(",\"transactional\":").append(batch.isTransactional()).append(",\"control\":").append(batch.isControlBatch())
                .append(",\"delete_horizon\":").append(batch.deleteHorizonMs().isPresent() ? batch.deleteHorizonMs().getAsLong() : null)
                .append(",\"max_timestamp\":").append(batch.maxTimestamp()).append(",\"producer_id\":").append(batch.producerId())
                .append(",\"producer_epoch\":").append(batch.producerEpoch()).append(",\"base_sequence\":").append(batch.baseSequence())
                .append(",\"last_sequence\":").append(batch.lastSequence());
        out.append("}\n");
        try (var records = batch.streamingIterator(BufferSupplier.create())) {
            while (records.hasNext())
                dump(file, batch, records.next(), out);
        }
    }

    static void dump(String file, RecordBatch batch, Record record, StringBuilder out) throws Exception {
        record.ensureValid();
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers())
            headers.add("[" + shown(header.key().getBytes(StandardCharsets.UTF_8)) + "," + shown(header.value()) + "]");
        out.append("{\"file\":\"").append(file).append("\",\"offset\":").append(record.offset());
        if (batch.isControlBatch())
            out.append(",\"control\":\"").append(ControlRecordType.parse(record.key()).name().toLowerCase()).append("\"");
        out.append(",\"timestamp\":").append(record.timestamp())
            .append(",\"key\":").append(shown(record.hasKey() ? Utils.toArray(record.key()) : null))
            .append(",\"value\":").append(shown(record.hasValue() ? Utils.toArray(record.value()) : null))
            .append(",\"headers\":[").append(String.join(",", headers)).append("]}\n");
    }

    static String shown(byte[] bytes) throws Exception {
        if (bytes == null)
            return "null";
        if (bytes.length <= 96)
            return "\"" + Base64.getEncoder().encodeToString(bytes) + "\"";
        String digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        return "{\"length\":" + bytes.length + ",\"sha256\":\"" + digest + "\"}";
    }

    // --- partitioning ---

    static String partitions() {
        Random random = new Random(42);
        StringBuilder out = new StringBuilder();
        for (int length = 0; length < 64; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            out.append("{\"key\":\"").append(Base64.getEncoder().encodeToString(key)).append("\",\"murmur2\":").append(Utils.murmur2(key));
            for (int partitions : new int[] {1, 2, 7, 50, 1_000, Integer.MAX_VALUE})
                out.append(",\"").append(partitions).append("\":").append(BuiltInPartitioner.partitionForKey(key, partitions));
            out.append("}\n");
        }
        return out.toString();
    }
}

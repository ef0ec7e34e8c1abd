import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An application that produces and consumes until its standard input ends; see "Steady clients" in tests/zoo/README.md. One
 * producer and two members of a group, with a user's defaults.
 */
public final class Steady {
  private static final int PAUSE_MS = 20, MEMBERS = 2, END_SECONDS = 60;
  private static String bootstrap, topic;
  private static int partitions;
  private static BufferedWriter history;
  private static final List<String> errors = new ArrayList<>();
  private static final Map<Integer, Long> acknowledgedAt = new ConcurrentHashMap<>();
  private static final Map<Integer, Long> readTo = new ConcurrentHashMap<>();
  private static long acknowledged, consumed, longestPauseUs;
  private static volatile boolean sending = true, reading = true;

  private static long clock() {
    return System.nanoTime() / 1000;
  }

  private static synchronized void write(String line) {
    try {
      history.write(line);
      history.write('\n');
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static synchronized void error(String where, Throwable what) {
    errors.add(where + ": " + what);
  }

  private static Map<String, Object> common() {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", bootstrap);
    return config;
  }

  private static void sent(int partition, long value, long from, long to, Long offset) {
    String end = to < 0 ? "" : ",\"to\":" + to;
    write("{\"op\":\"send\",\"result\":\"" + (offset == null ? "info" : "ok") + "\",\"client\":\"p." + partition
        + "\",\"from\":" + from + end + ",\"idempotent\":true,\"items\":[[\"" + topic + "-" + partition + "\"," + offset
        + "," + value + "]]}");
  }

  private static void produce() {
    Map<String, Object> config = common();
    config.put("acks", "all");
    config.put("enable.idempotence", true);
    Map<Long, long[]> open = new ConcurrentHashMap<>();
    try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
      for (long value = 1; sending; ) {
        for (int p = 0; p < partitions; p++, value++) {
          final int partition = p;
          final long number = value, from = clock();
          open.put(number, new long[] {partition, from});
          byte[] bytes = (number + ":" + "x".repeat((int) (number % 200))).getBytes(StandardCharsets.US_ASCII);
          producer.send(new ProducerRecord<>(topic, partition, null, bytes), (metadata, failure) -> {
            long to = clock();
            open.remove(number);
            if (failure != null) {
              error("produce", failure);
              sent(partition, number, from, to, null);
              return;
            }
            sent(partition, number, from, to, metadata.offset());
            Long last = acknowledgedAt.put(partition, to);
            acknowledged++;  // callbacks come on one thread
            if (last != null) longestPauseUs = Math.max(longestPauseUs, to - last);
          });
        }
        Thread.sleep(PAUSE_MS);
      }
      producer.flush();
    } catch (Exception e) {
      error("producer", e);
    }
    open.forEach((value, at) -> sent((int) at[0], value, at[1], -1, null));
  }

  private static void member(int number) {
    Map<String, Object> config = common();
    config.put("group.id", topic + "-group");
    config.put("auto.offset.reset", "earliest");
    config.put("enable.auto.commit", false);
    try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      Set<Integer> fresh = new HashSet<>();
      consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
          for (TopicPartition p : assigned) fresh.add(p.partition());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}

        @Override
        public void onPartitionsLost(Collection<TopicPartition> lost) {
          error("member " + number, new IllegalStateException("partitions lost: " + lost));
        }
      });
      while (reading) {
        long from = clock();
        try {
          ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
          long to = clock();
          for (TopicPartition p : records.partitions()) {
            StringBuilder items = new StringBuilder();
            long last = -1;
            for (ConsumerRecord<byte[], byte[]> record : records.records(p)) {
              String text = new String(record.value(), StandardCharsets.US_ASCII);
              items.append(items.isEmpty() ? "" : ",").append("[\"").append(topic).append('-').append(p.partition()).append("\",")
                  .append(record.offset()).append(',').append(text, 0, text.indexOf(':')).append(']');
              last = record.offset();
            }
            boolean reset = fresh.remove(p.partition());
            write("{\"op\":\"poll\",\"result\":\"ok\",\"client\":\"m" + number + "." + p.partition() + "\",\"from\":" + from
                + ",\"to\":" + to + (reset ? ",\"reset\":true" : "") + ",\"items\":[" + items + "]}");
            readTo.merge(p.partition(), last + 1, Math::max);
          }
          synchronized (Steady.class) {
            consumed += records.count();
          }
          if (!records.isEmpty()) consumer.commitSync();
        } catch (WakeupException e) {
          break;
        } catch (Exception e) {
          error("member " + number, e);
        }
      }
    } catch (Exception e) {
      error("member " + number, e);
    }
  }

  private static String version() throws IOException {
    try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
      Properties build = new Properties();
      build.load(file);
      return build.getProperty("version");
    }
  }

  private static boolean reachEnds() throws InterruptedException {
    List<TopicPartition> all = IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(topic, p)).toList();
    try (var consumer = new KafkaConsumer<>(common(), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      Map<TopicPartition, Long> ends = consumer.endOffsets(all);
      for (int i = 0; i < END_SECONDS * 10; i++) {
        if (ends.entrySet().stream().allMatch(e -> readTo.getOrDefault(e.getKey().partition(), 0L) >= e.getValue())) return true;
        Thread.sleep(100);
      }
      error("at the end", new IllegalStateException("read to " + readTo + " of " + ends));
    } catch (Exception e) {
      error("at the end", e);
    }
    return false;
  }

  public static void main(String[] arguments) throws Exception {
    bootstrap = arguments[0];
    topic = arguments[1];
    partitions = Integer.parseInt(arguments[2]);
    history = Files.newBufferedWriter(Path.of(arguments[3]));
    write("{\"history\":1}");
    Thread producer = new Thread(Steady::produce);
    List<Thread> members = IntStream.range(0, MEMBERS).mapToObj(i -> new Thread(() -> member(i))).collect(Collectors.toList());
    producer.start();
    members.forEach(Thread::start);
    while (acknowledgedAt.size() < partitions || readTo.size() < partitions) Thread.sleep(20);
    System.out.println("{\"ready\":true}");
    while (System.in.read() >= 0) { }
    sending = false;
    producer.join();
    if (reachEnds()) write("{\"final_reads\":true}");
    reading = false;
    for (Thread member : members) member.join();
    history.close();
    String told = errors.stream().limit(20).map(e -> "\"" + e.replaceAll("[\\\\\"\\p{Cntrl}]", "'") + "\"").collect(Collectors.joining(","));
    System.out.println("{\"client\":\"java\",\"version\":\"" + version() + "\",\"acknowledged\":" + acknowledged
        + ",\"consumed\":" + consumed + ",\"longest_pause_ms\":" + longestPauseUs / 1000 + ",\"errors\":[" + told + "],\"error_count\":"
        + errors.size() + "}");
    System.exit(errors.isEmpty() ? 0 : 1);
  }
}

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Java kafka-clients against a broker; the same source for every version. */
public final class Clients {
  private static Zoo zoo;
  private static Admin admin;

  private static <T> T get(KafkaFuture<T> future) throws Exception {
    try {
      return future.get(20, TimeUnit.SECONDS);
    } catch (ExecutionException error) {
      throw error.getCause() instanceof Exception cause ? cause : error;
    }
  }

  private static String create(String what, int partitions, String... configs) throws Exception {
    Map<String, String> settings = new HashMap<>();
    for (int i = 0; i < configs.length; i += 2) settings.put(configs[i], configs[i + 1]);
    String topic = zoo.name(what);
    get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) -1).configs(settings))).all());
    Zoo.waitUntil("the new topic in the metadata", 10, () -> partitionsOf(topic) == partitions);
    return topic;
  }

  private static int partitionsOf(String topic) throws Exception {
    if (!get(admin.listTopics().names()).contains(topic)) return 0;
    try {
      return get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
    } catch (UnknownTopicOrPartitionException notThere) {
      return 0;
    }
  }

  private static KafkaProducer<byte[], byte[]> producer(Object... configs) {
    Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", zoo.bootstrap, "linger.ms", 5,
        "delivery.timeout.ms", 30_000, "request.timeout.ms", 20_000));
    for (int i = 0; i < configs.length; i += 2) settings.put((String) configs[i], configs[i + 1]);
    return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
  }

  private static void send(List<ProducerRecord<byte[], byte[]>> records, Object... configs) throws Exception {
    try (KafkaProducer<byte[], byte[]> producer = producer(configs)) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (ProducerRecord<byte[], byte[]> record : records) sent.add(producer.send(record));
      for (Future<RecordMetadata> one : sent) one.get(30, TimeUnit.SECONDS);
    }
  }

  private static List<ProducerRecord<byte[], byte[]>> records(String topic, List<byte[]> values) {
    List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
    for (byte[] value : values) records.add(new ProducerRecord<>(topic, 0, null, value));
    return records;
  }

  private static List<byte[]> values(List<ConsumerRecord<byte[], byte[]>> records) {
    List<byte[]> values = new ArrayList<>();
    for (ConsumerRecord<byte[], byte[]> record : records) values.add(record.value());
    return values;
  }

  private static KafkaConsumer<byte[], byte[]> consumer(Object... configs) {
    Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", zoo.bootstrap, "auto.offset.reset",
        "earliest", "enable.auto.commit", false, "fetch.max.wait.ms", 100));
    for (int i = 0; i < configs.length; i += 2) settings.put((String) configs[i], configs[i + 1]);
    return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  private static KafkaConsumer<byte[], byte[]> groupConsumer(String group, Object... configs) {
    Object[] all = Arrays.copyOf(new Object[] {"group.id", group, "session.timeout.ms", 6000, "heartbeat.interval.ms", 500,
        "max.poll.records", 1}, 8 + configs.length);
    System.arraycopy(configs, 0, all, 8, configs.length);
    return consumer(all);
  }

  /** The next count records, or fewer when twenty seconds are over. */
  private static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
    List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
    for (long end = System.nanoTime() + 20_000_000_000L; got.size() < count && System.nanoTime() < end; ) {
      consumer.poll(Duration.ofMillis(100)).forEach(got::add);
    }
    return got;
  }

  private static List<ConsumerRecord<byte[], byte[]>> read(String topic, int count, long start) {
    try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
      consumer.assign(List.of(new TopicPartition(topic, 0)));
      consumer.seek(new TopicPartition(topic, 0), start);
      return poll(consumer, count);
    }
  }

  private static long offset(String topic, OffsetSpec spec) throws Exception {
    TopicPartition partition = new TopicPartition(topic, 0);
    return get(admin.listOffsets(Map.of(partition, spec)).partitionResult(partition)).offset();
  }

  private static String createTopic() throws Exception {
    String topic = create("create", 3);
    Zoo.waitUntil("three partitions", 10, () -> partitionsOf(topic) == 3);
    return null;
  }

  private static String produce(String codec) throws Exception {
    String topic = create("codec-" + codec, 1);
    send(records(topic, Zoo.payloads()), "compression.type", codec);
    Zoo.sameValues(values(read(topic, Zoo.payloads().size(), 0)), Zoo.payloads());
    return null;
  }

  private static String recordFields() throws Exception {
    String topic = create("fields", 1);
    List<Header> headers = List.of(new RecordHeader("a", new byte[] {1}), new RecordHeader("b", new byte[] {0, -1}),
        new RecordHeader("a", new byte[] {2}), new RecordHeader("empty", new byte[0]), new RecordHeader("null", (byte[]) null));
    List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
    for (byte i = 0; i < 5; i++) {
      sent.add(new ProducerRecord<>(topic, 0, Zoo.BASE_TIME + i, new byte[] {'k', 0, i}, new byte[] {i}, headers));
    }
    sent.add(new ProducerRecord<>(topic, 0, null, new byte[] {9}));
    send(sent);
    List<ConsumerRecord<byte[], byte[]>> got = read(topic, 6, 0);
    for (byte i = 0; i < 5; i++) {
      Zoo.expect(Arrays.equals(got.get(i).key(), new byte[] {'k', 0, i}), "key differs");
      Zoo.expectEqual(Arrays.asList(got.get(i).headers().toArray()), headers, "headers");
      Zoo.expectEqual(got.get(i).timestamp(), Zoo.BASE_TIME + i, "timestamp");
    }
    Zoo.expect(got.get(5).key() == null && got.get(5).headers().toArray().length == 0, "record without key and headers");
    return null;
  }

  private static String nullValue() throws Exception {
    String topic = create("null", 1);
    send(records(topic, Arrays.asList(null, new byte[0])));
    Zoo.sameValues(values(read(topic, 2, 0)), Arrays.asList(null, new byte[0]));
    return null;
  }

  private static String idempotent(String what, int inFlight) throws Exception {
    String topic = create(what, 1);
    send(records(topic, Zoo.numbers(0, 5000)), "enable.idempotence", true, "max.in.flight.requests.per.connection", inFlight,
        "batch.size", 500, "linger.ms", 0);
    Zoo.sameValues(values(read(topic, 5000, 0)), Zoo.numbers(0, 5000));
    Zoo.expectEqual(offset(topic, OffsetSpec.latest()), 5000L, "end offset");
    return null;
  }

  /** Forty records, one second apart. */
  private static String numberedTopic(String what) throws Exception {
    String topic = create(what, 1);
    List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
    for (byte[] value : Zoo.numbers(0, 40)) {
      sent.add(new ProducerRecord<>(topic, 0, Zoo.BASE_TIME + sent.size() * 1000L, null, value));
    }
    send(sent);
    return topic;
  }

  private static String consumeStart() throws Exception {
    String topic = numberedTopic("start");
    try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", zoo.name("start"))) {
      consumer.subscribe(List.of(topic));
      Zoo.sameValues(values(poll(consumer, 40)), Zoo.numbers(0, 40));
    }
    return null;
  }

  private static String consumeOffset() throws Exception {
    Zoo.sameValues(values(read(numberedTopic("offset"), 23, 17)), Zoo.numbers(17, 40));
    return null;
  }

  private static String consumeTimestamp() throws Exception {
    String topic = numberedTopic("timestamp");
    TopicPartition partition = new TopicPartition(topic, 0);
    try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
      var found = consumer.offsetsForTimes(Map.of(partition, Zoo.BASE_TIME + 22_500)).get(partition);
      Zoo.expectEqual(found.offset(), 23L, "offset of the first record after 22.5 s");
      Zoo.expectEqual(found.timestamp(), Zoo.BASE_TIME + 23_000, "its timestamp");
      Zoo.expectEqual(consumer.offsetsForTimes(Map.of(partition, Zoo.BASE_TIME * 2)).get(partition), null, "after the last");
      consumer.assign(List.of(partition));
      consumer.seek(partition, found.offset());
      Zoo.sameValues(values(poll(consumer, 17)), Zoo.numbers(23, 40));
    }
    return null;
  }

  /** Tells how many partitions a member holds after each rebalance. */
  private static ConsumerRebalanceListener holding(KafkaConsumer<?, ?> consumer, java.util.function.IntConsumer hold) {
    return new ConsumerRebalanceListener() {
      @Override
      public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}

      @Override
      public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        hold.accept(consumer.assignment().size());
      }
    };
  }

  private static void commit(KafkaConsumer<?, ?> consumer, ConsumerRecord<?, ?> record) {
    consumer.commitSync(Map.of(new TopicPartition(record.topic(), record.partition()),
        new OffsetAndMetadata(record.offset() + 1)));
  }

  private static String text(ConsumerRecord<byte[], byte[]> record) {
    return new String(record.value(), StandardCharsets.UTF_8);
  }

  private static String group(int members) throws Exception {
    String topic = create("group-" + members, Zoo.GROUP_PARTITIONS);
    String group = zoo.name("group-" + members);
    Zoo.Seen seen = new Zoo.Seen();
    AtomicBoolean stop = new AtomicBoolean();
    Process victim = members > 1 ? zoo.startVictim("Clients", topic, group, seen) : null;
    List<Thread> survivors = new ArrayList<>();
    for (int i = 0; i < Math.max(members - 1, 1); i++) {
      String name = "m" + i;
      survivors.add(new Thread(() -> {
        try (KafkaConsumer<byte[], byte[]> consumer = groupConsumer(group)) {
          consumer.subscribe(List.of(topic), holding(consumer, held -> seen.held.put(name, held)));
          while (!stop.get()) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
              commit(consumer, record);
              seen.values.add(text(record));
            }
          }
        } catch (Throwable error) {
          seen.errors.add(error);
        }
      }));
    }
    survivors.forEach(Thread::start);
    try {
      Zoo.waitUntil("every member holds partitions", 30, () -> seen.balanced(members));
      List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
      for (byte[] value : Zoo.numbers(0, Zoo.GROUP_RECORDS)) {
        sent.add(new ProducerRecord<>(topic, sent.size() % Zoo.GROUP_PARTITIONS, null, value));
      }
      send(sent);
      Zoo.waitUntil("all records seen", 40, seen::complete);
    } finally {
      stop.set(true);
      for (Thread thread : survivors) thread.join();
      if (victim != null) victim.destroyForcibly().waitFor();
    }
    for (OffsetAndMetadata offset : get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).values()) {
      Zoo.expectEqual(offset.offset(), (long) Zoo.GROUP_RECORDS / Zoo.GROUP_PARTITIONS, "committed offset");
    }
    return seen.judge(members);
  }

  private static void runVictim(String topic, String group) {
    KafkaConsumer<byte[], byte[]> consumer = groupConsumer(group);
    consumer.subscribe(List.of(topic), holding(consumer, held -> System.out.println("assigned " + held)));
    for (int count = 0; ; ) {
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
        if (count++ == Zoo.VICTIM_RECORDS) zoo.die();
        commit(consumer, record);
        System.out.println("seen " + text(record));
      }
    }
  }

  /** A consumer with an instance id, polled by a thread of its own. */
  private static final class StaticMember implements AutoCloseable {
    final AtomicInteger rebalances = new AtomicInteger();
    volatile Set<TopicPartition> held = Set.of();
    volatile Throwable error;
    private volatile boolean stop;
    private final Thread thread;

    StaticMember(String topic, String group, String instance) {
      thread = new Thread(() -> {
        try (KafkaConsumer<byte[], byte[]> consumer =
            groupConsumer(group, "group.instance.id", instance, "session.timeout.ms", 20_000)) {
          consumer.subscribe(List.of(topic), holding(consumer, count -> {
            rebalances.incrementAndGet();
            held = Set.copyOf(consumer.assignment());
          }));
          while (!stop) consumer.poll(Duration.ofMillis(100));
        } catch (Throwable thrown) {
          error = thrown;
        }
      });
      thread.start();
    }

    @Override
    public void close() throws Exception {
      stop = true;
      thread.join();
      if (error != null) throw new AssertionError("a member failed: " + error, error);
    }
  }

  private static String staticMember() throws Exception {
    String topic = create("static", 4);
    String group = zoo.name("static");
    try (StaticMember a = new StaticMember(topic, group, "a")) {
      Set<TopicPartition> held;
      int before;
      Map<String, String> ids;
      try (StaticMember b = new StaticMember(topic, group, "b")) {
        Zoo.waitUntil("two partitions each", 20, () -> a.held.size() == 2 && b.held.size() == 2);
        held = b.held;
        before = a.rebalances.get();
        ids = memberIds(group);
      }
      try (StaticMember b = new StaticMember(topic, group, "b")) {
        Zoo.waitUntil("partitions for the restarted member", 10, () -> !b.held.isEmpty());
        Thread.sleep(1500);
        Zoo.expectEqual(b.held, held, "partitions of the restarted member");
        Zoo.expectEqual(a.rebalances.get(), before, "rebalances of the other member");
        Map<String, String> after = memberIds(group);
        Zoo.expectEqual(after.get("a"), ids.get("a"), "member id of the other member");
        Zoo.expect(!after.get("b").equals(ids.get("b")), "the member id did not change");
      }
    }
    return null;
  }

  private static Map<String, String> memberIds(String group) throws Exception {
    Map<String, String> ids = new HashMap<>();
    for (MemberDescription member : describe(group).members()) {
      ids.put(member.groupInstanceId().orElse(""), member.consumerId());
    }
    return ids;
  }

  private static ConsumerGroupDescription describe(String group) throws Exception {
    return get(admin.describeConsumerGroups(List.of(group)).describedGroups().get(group));
  }

  private static String commitResume() throws Exception {
    String topic = numberedTopic("resume");
    try (KafkaConsumer<byte[], byte[]> first = groupConsumer(zoo.name("resume"))) {
      first.subscribe(List.of(topic));
      commit(first, poll(first, 15).get(14));
    }
    try (KafkaConsumer<byte[], byte[]> second = groupConsumer(zoo.name("resume"))) {
      second.subscribe(List.of(topic));
      Zoo.sameValues(values(poll(second, 25)), Zoo.numbers(15, 40));
    }
    return null;
  }

  private static Config configOf(String topic) throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    return get(admin.describeConfigs(List.of(resource)).all()).get(resource);
  }

  private static String describeConfigs() throws Exception {
    Config config = configOf(create("configs", 1, "retention.ms", "1234567"));
    Zoo.expectEqual(config.get("retention.ms").value(), "1234567", "retention.ms");
    Zoo.expectEqual(config.get("cleanup.policy").value(), "delete", "cleanup.policy");
    Zoo.expect(!config.get("retention.ms").isDefault() && config.get("cleanup.policy").isDefault(), "isDefault is wrong");
    return config.entries().size() + " keys";
  }

  private static String alterConfigs() throws Exception {
    String topic = create("alter", 1, "retention.ms", "1234567");
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    get(admin.incrementalAlterConfigs(Map.of(resource,
        List.of(new AlterConfigOp(new ConfigEntry("segment.bytes", "2097152"), AlterConfigOp.OpType.SET)))).all());
    Zoo.waitUntil("segment.bytes changed", 10, () -> configOf(topic).get("segment.bytes").value().equals("2097152"));
    Zoo.expectEqual(configOf(topic).get("retention.ms").value(), "1234567", "retention.ms");
    get(admin.incrementalAlterConfigs(Map.of(resource,
        List.of(new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE)))).all());
    Zoo.waitUntil("retention.ms back at its default", 10, () -> configOf(topic).get("retention.ms").isDefault());
    return null;
  }

  private interface WithConsumer {
    void run(String topic, String group) throws Exception;
  }

  /** A group of one member that has committed ten of forty records and is still there. */
  private static void committedGroup(String what, WithConsumer body) throws Exception {
    String topic = numberedTopic(what);
    try (KafkaConsumer<byte[], byte[]> consumer = groupConsumer(zoo.name(what))) {
      consumer.subscribe(List.of(topic));
      commit(consumer, poll(consumer, 10).get(9));
      body.run(topic, zoo.name(what));
    }
  }

  @SuppressWarnings("deprecation")
  private static String listGroups() throws Exception {
    committedGroup("list-groups", (topic, group) -> Zoo.expect(
        get(admin.listConsumerGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)), "the group is not listed"));
    return null;
  }

  @SuppressWarnings("deprecation")
  private static String describeGroup() throws Exception {
    committedGroup("describe-group", (topic, group) -> {
      ConsumerGroupDescription found = describe(group);
      Zoo.expectEqual(found.state().toString(), "Stable", "state");
      Zoo.expectEqual(found.members().size(), 1, "members");
      Zoo.expectEqual(found.members().iterator().next().assignment().topicPartitions(), Set.of(new TopicPartition(topic, 0)),
          "assignment");
    });
    Zoo.waitUntil("an empty group", 10, () -> describe(zoo.name("describe-group")).state().toString().equals("Empty"));
    return null;
  }

  private static String listOffsets() throws Exception {
    committedGroup("list-offsets", (topic, group) -> {
      Zoo.expectEqual(offset(topic, OffsetSpec.earliest()), 0L, "earliest offset");
      Zoo.expectEqual(offset(topic, OffsetSpec.latest()), 40L, "latest offset");
      Zoo.expectEqual(offset(topic, OffsetSpec.maxTimestamp()), 39L, "offset of the largest timestamp");
      var committed = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
      Zoo.expectEqual(committed.get(new TopicPartition(topic, 0)).offset(), 10L, "committed offset");
    });
    return null;
  }

  private static String deleteRecords() throws Exception {
    String topic = numberedTopic("delete-records");
    TopicPartition partition = new TopicPartition(topic, 0);
    var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(25))).lowWatermarks().get(partition);
    Zoo.expectEqual(get(deleted).lowWatermark(), 25L, "low watermark");
    Zoo.expectEqual(offset(topic, OffsetSpec.earliest()), 25L, "earliest offset");
    Zoo.sameValues(values(read(topic, 15, 25)), Zoo.numbers(25, 40));
    return null;
  }

  private static String deleteTopic() throws Exception {
    String topic = create("delete", 1);
    get(admin.deleteTopics(List.of(topic)).all());
    Zoo.waitUntil("the topic gone", 10, () -> partitionsOf(topic) == 0);
    return null;
  }

  private static String errorTooLarge() throws Exception {
    String topic = create("large", 1, "max.message.bytes", "20000");
    String text = Zoo.expectError(RecordTooLargeException.class, () -> {
      send(records(topic, Zoo.payloads().subList(9, 10)));
      return null;
    });
    send(records(topic, Zoo.numbers(0, 1)));
    return text;
  }

  private static String errorUnknownTopic() throws Exception {
    return Zoo.expectError(UnknownTopicOrPartitionException.class, () -> {
      get(admin.describeTopics(List.of(zoo.name("nowhere"))).allTopicNames());
      return null;
    });
  }

  private static String errorBadTopicName() throws Exception {
    return Zoo.expectError(InvalidTopicException.class, () -> create("bad/name!", 1));
  }

  public static void main(String[] arguments) throws Exception {
    Properties build = new Properties();
    try (InputStream file = Admin.class.getResourceAsStream("/kafka/kafka-version.properties")) {
      build.load(file);
    }
    String version = build.getProperty("version");
    zoo = new Zoo("java-" + version.substring(0, version.lastIndexOf('.')), version, arguments);
    if (zoo.victim != null) runVictim(zoo.victim.get(0), zoo.victim.get(1));
    admin = Admin.create(Map.of("bootstrap.servers", zoo.bootstrap));
    zoo.run("create_topic", Clients::createTopic);
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) zoo.run("produce_" + codec, () -> produce(codec));
    zoo.run("record_fields", Clients::recordFields);
    zoo.run("null_value", Clients::nullValue);
    zoo.run("idempotent", () -> idempotent("idempotent", 1));
    zoo.run("idempotent_in_flight", () -> idempotent("idempotent-in-flight", 5));
    zoo.run("consume_start", Clients::consumeStart);
    zoo.run("consume_offset", Clients::consumeOffset);
    zoo.run("consume_timestamp", Clients::consumeTimestamp);
    zoo.run("commit_resume", Clients::commitResume);
    zoo.run("describe_configs", Clients::describeConfigs);
    zoo.run("alter_configs", Clients::alterConfigs);
    zoo.run("list_groups", Clients::listGroups);
    zoo.run("describe_group", Clients::describeGroup);
    zoo.run("list_offsets", Clients::listOffsets);
    zoo.run("delete_records", Clients::deleteRecords);
    zoo.run("delete_topic", Clients::deleteTopic);
    zoo.run("error_too_large", Clients::errorTooLarge);
    zoo.run("error_unknown_topic", Clients::errorUnknownTopic);
    zoo.run("error_bad_topic_name", Clients::errorBadTopicName);
    Map<String, Zoo.Body> together = new LinkedHashMap<>();
    for (int n = 1; n <= 4; n++) {
      int members = n;
      together.put("group_" + n, () -> group(members));
    }
    together.put("static_member", Clients::staticMember);
    zoo.runTogether(together);
    admin.close(Duration.ofSeconds(5));
  }
}

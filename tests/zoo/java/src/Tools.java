import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.VerifiableProducer;

/**
 * Kafka's own command line tools against a broker: their main methods, called as the shell scripts call them, but most of
 * them inside one JVM. The verifiable producer and consumer are processes, so that they can be stopped and killed.
 */
public final class Tools {
  private static final String TOOLS = "org.apache.kafka.tools.";
  private static final String CONSUMER = TOOLS + "consumer.ConsoleConsumer";
  private static final String PRODUCER = TOOLS + "ConsoleProducer";
  private static final String GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand";
  private static Zoo zoo;
  private static Integer exitCode;

  /** Ends a tool that asks for the end of the process. Some tools catch it and ask again: the first code counts. */
  private static final class Ended extends Error {
    Ended(int code) {
      super("exit " + code, null, false, false);
      if (exitCode == null) exitCode = code;
    }
  }

  private record Output(int code, String standard, String text) {
    List<String> lines() {
      return standard.lines().toList();
    }

    boolean has(String pattern) {
      return Pattern.compile(pattern).matcher(text).find();
    }

    /** Fails unless the output matches. */
    Matcher want(String pattern) {
      Matcher matcher = Pattern.compile(pattern).matcher(text);
      if (!matcher.find()) throw new AssertionError("expected " + pattern + " in: " + brief());
      return matcher;
    }

    String brief() {
      return text.substring(0, Math.min(500, text.length())).replace('\n', ' ');
    }
  }

  /** Calls a tool's main method, then its shutdown hooks; what it prints goes to the result. */
  private static synchronized Output call(String tool, String input, String... arguments) throws Exception {
    InputStream in = System.in;
    PrintStream out = System.out;
    PrintStream err = System.err;
    ByteArrayOutputStream standard = new ByteArrayOutputStream();
    ByteArrayOutputStream errors = new ByteArrayOutputStream();
    List<Runnable> hooks = new ArrayList<>();
    Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
    exitCode = null;
    try {
      System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
      System.setOut(new PrintStream(standard, false, StandardCharsets.UTF_8));
      System.setErr(new PrintStream(errors, false, StandardCharsets.UTF_8));
      Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
    } catch (InvocationTargetException error) {
      if (!(error.getCause() instanceof Ended)) throw error;
    } finally {
      hooks.forEach(Runnable::run);
      System.out.flush();
      System.err.flush();
      System.setIn(in);
      System.setOut(out);
      System.setErr(err);
    }
    String text = standard.toString(StandardCharsets.UTF_8);
    return new Output(exitCode == null ? 0 : exitCode, text, text + errors.toString(StandardCharsets.UTF_8));
  }

  /** The same for a tool that takes a bootstrap server and must succeed. */
  private static Output tool(String tool, String input, String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of("--bootstrap-server", zoo.bootstrap));
    all.addAll(List.of(arguments));
    Output output = call(tool, input, all.toArray(new String[0]));
    if (output.code != 0) throw new AssertionError(tool + " ended with " + output.code + ": " + output.brief());
    return output;
  }

  private static ProcessBuilder process(String tool, String... arguments) {
    List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp", System.getProperty("java.class.path"), tool,
        "--bootstrap-server", zoo.bootstrap));
    command.addAll(List.of(arguments));
    return new ProcessBuilder(command).redirectErrorStream(true);
  }

  /** The verifiable producer closes its client in a shutdown hook of the JVM, so it gets one of its own. */
  private static Output verifiableProducer(String... arguments) throws Exception {
    Process process = process(TOOLS + "VerifiableProducer", arguments).start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    return new Output(process.waitFor(), text, text);
  }

  private static Output topics(String... arguments) throws Exception {
    return tool(TOOLS + "TopicCommand", "", arguments);
  }

  private static String create(String what, int partitions, String... configs) throws Exception {
    String topic = zoo.name(what);
    List<String> arguments = new ArrayList<>(List.of("--create", "--topic", topic, "--partitions", "" + partitions));
    for (String config : configs) arguments.addAll(List.of("--config", config));
    topics(arguments.toArray(new String[0]));
    Zoo.waitUntil("the new topic in the metadata", 10, () -> topics("--list").lines().contains(topic));
    return topic;
  }

  private static String text(String... lines) {
    return Arrays.stream(lines).map(line -> line + "\n").collect(Collectors.joining());
  }

  private static String numbers(int from, int to) {
    return text(IntStream.range(from, to).mapToObj(Integer::toString).toArray(String[]::new));
  }

  private static void send(String topic, String lines, String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of("--topic", topic));
    all.addAll(List.of(arguments));
    Output output = tool(PRODUCER, lines, all.toArray(new String[0]));
    Zoo.expect(!output.has("(?i)exception|error"), "the producer complained: " + output.brief());
  }

  /** What the console consumer prints for count records. */
  private static String read(String topic, int count, String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of("--topic", topic, "--max-messages", "" + count, "--timeout-ms", "15000"));
    all.addAll(List.of(arguments));
    return tool(CONSUMER, "", all.toArray(new String[0])).standard;
  }

  private static String createTopic() throws Exception {
    String topic = create("create", 3);
    topics("--describe", "--topic", topic).want("PartitionCount: 3").usePattern(Pattern.compile("Leader: \\d+"));
    return null;
  }

  private static String produce(String codec) throws Exception {
    String topic = create("codec-" + codec, 1);
    StringBuilder lines = new StringBuilder();
    for (int size : new int[] {0, 1, 7, 256, 1000, 10_000, 100_000}) {
      lines.append("m".repeat(size)).append('\n');
      new Random(size).ints(size, '!', '~').forEach(c -> lines.append((char) c));
      lines.append('\n');
    }
    send(topic, lines.toString(), "--compression-codec", codec);
    Zoo.expect(read(topic, 14, "--from-beginning").equals(lines.toString()), "the values differ");
    return null;
  }

  private static String recordFields() throws Exception {
    String topic = create("fields", 1);
    send(topic, text("a:1,b:2,a:3\tkey\tvalue"), "--reader-property", "parse.key=true", "--reader-property",
        "parse.headers=true");
    long before = System.currentTimeMillis();
    String got = read(topic, 1, "--from-beginning", "--formatter-property", "print.key=true", "--formatter-property",
        "print.headers=true", "--formatter-property", "print.timestamp=true");
    Matcher found = new Output(0, got, got).want("^CreateTime:(\\d+)\ta:1,b:2,a:3\tkey\tvalue\n$");
    Zoo.expect(Math.abs(Long.parseLong(found.group(1)) - before) < 60_000, "the timestamp is not the time of sending");
    return null;
  }

  private static String nullValue() throws Exception {
    String topic = create("null", 1);
    send(topic, text("gone\tNULL", "empty\t"), "--reader-property", "parse.key=true", "--reader-property", "null.marker=NULL");
    Zoo.expectEqual(read(topic, 2, "--from-beginning", "--formatter-property", "print.key=true", "--formatter-property",
        "null.literal=<null>"), text("gone\t<null>", "empty\t"), "records");
    return null;
  }

  private static String idempotent(String what, int inFlight) throws Exception {
    String topic = create(what, 1);
    send(topic, numbers(0, 5000), "--command-property", "enable.idempotence=true", "--command-property",
        "max.in.flight.requests.per.connection=" + inFlight, "--batch-size", "500", "--timeout", "0");
    Zoo.expect(read(topic, 5000, "--from-beginning").equals(numbers(0, 5000)), "the values differ");
    Zoo.expectEqual(offset(topic, "latest"), 5000L, "end offset");
    return null;
  }

  private static long offset(String topic, String time) throws Exception {
    return Long.parseLong(tool(TOOLS + "GetOffsetShell", "", "--topic", topic, "--time", time)
        .want(Pattern.quote(topic) + ":0:(\\d+)").group(1));
  }

  private static String consumeStart() throws Exception {
    String topic = create("start", 1);
    Output sent = verifiableProducer("--topic", topic, "--max-messages", "40", "--acks", "-1");
    sent.want("\"acked\":40");
    Zoo.expectEqual(sent.text.split("producer_send_success", -1).length - 1, 40, "acknowledged records");
    Zoo.expectEqual(read(topic, 40, "--from-beginning"), numbers(0, 40), "values");
    return "verifiable producer, console consumer";
  }

  private static String consumeOffset() throws Exception {
    String topic = create("offset", 1);
    send(topic, numbers(0, 40));
    Zoo.expectEqual(read(topic, 23, "--partition", "0", "--offset", "17"), numbers(17, 40), "values");
    return null;
  }

  private static String consumeTimestamp() throws Exception {
    String topic = create("timestamp", 1);
    for (int i = 0; i < 2; i++) {
      verifiableProducer("--topic", topic, "--max-messages", "20", "--acks", "-1", "--value-prefix",
          "" + i, "--message-create-time", "" + (Zoo.BASE_TIME + i * 3_600_000L));
    }
    String half = "" + (Zoo.BASE_TIME + 1_800_000);
    Zoo.expectEqual(offset(topic, half), 20L, "offset after half an hour");
    // 1,600,001,800,000 ms since 1970 is this moment of the day.
    tool(GROUPS, "", "--group", zoo.name("timestamp"), "--topic", topic, "--reset-offsets", "--to-datetime",
        "2020-09-13T12:56:40.000Z", "--execute").want(Pattern.quote(topic) + "\\s+0\\s+20");
    Zoo.expectEqual(read(topic, 1, "--group", zoo.name("timestamp")), text("1.0"), "first value");
    return null;
  }

  private static String commitResume() throws Exception {
    String topic = create("resume", 1);
    send(topic, numbers(0, 40));
    Zoo.expectEqual(read(topic, 15, "--from-beginning", "--group", zoo.name("resume")), numbers(0, 15), "values");
    Zoo.expectEqual(read(topic, 25, "--from-beginning", "--group", zoo.name("resume")), numbers(15, 40), "values");
    return null;
  }

  private static Output configs(String topic, String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of("--entity-type", "topics", "--entity-name", topic));
    all.addAll(List.of(arguments));
    return tool("kafka.admin.ConfigCommand", "", all.toArray(new String[0]));
  }

  private static String describeConfigs() throws Exception {
    String topic = create("configs", 1, "retention.ms=1234567");
    configs(topic, "--describe").want("retention.ms=1234567");
    configs(topic, "--describe", "--all").want("cleanup.policy=delete");
    return null;
  }

  private static String alterConfigs() throws Exception {
    String topic = create("alter", 1, "retention.ms=1234567");
    configs(topic, "--alter", "--add-config", "segment.bytes=2097152");
    Zoo.waitUntil("segment.bytes changed", 10, () -> configs(topic, "--describe").has("segment.bytes=2097152"));
    configs(topic, "--describe").want("retention.ms=1234567");
    configs(topic, "--alter", "--delete-config", "retention.ms");
    Zoo.waitUntil("retention.ms back at its default", 10, () -> !configs(topic, "--describe").has("retention.ms=1234567"));
    return null;
  }

  private static String deleteRecords() throws Exception {
    String topic = create("delete-records", 1);
    send(topic, numbers(0, 40));
    deleteBelow(topic, 25).want("low_watermark: 25");
    Zoo.expectEqual(offset(topic, "earliest"), 25L, "earliest offset");
    Zoo.expectEqual(read(topic, 15, "--from-beginning"), numbers(25, 40), "values");
    return null;
  }

  private static Output deleteBelow(String topic, int offset) throws Exception {
    Path file = Files.createTempFile("zoo", ".json");
    try {
      Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":" + offset
          + "}],\"version\":1}");
      return tool(TOOLS + "DeleteRecordsCommand", "", "--offset-json-file", file.toString());
    } finally {
      Files.delete(file);
    }
  }

  private static String deleteTopic() throws Exception {
    String topic = create("delete", 1);
    topics("--delete", "--topic", topic);
    Zoo.waitUntil("the topic gone", 10, () -> !topics("--list").lines().contains(topic));
    return null;
  }

  private static String errorTooLarge() throws Exception {
    String topic = create("large", 1, "max.message.bytes=20");
    Output output = verifiableProducer("--topic", topic, "--max-messages", "1", "--acks", "-1");
    return output.want("org.apache.kafka.common.errors.RecordTooLargeException[^}]*").group();
  }

  private static String errorUnknownTopic() throws Exception {
    return call("kafka.admin.ConfigCommand", "", "--bootstrap-server", zoo.bootstrap, "--entity-type", "topics", "--entity-name",
        zoo.name("nowhere"), "--alter", "--add-config", "retention.ms=1234567").want("[^\n]*UnknownTopicOrPartitionException[^\n]*").group();
  }

  private static String errorBadTopicName() throws Exception {
    Output output = call(TOOLS + "TopicCommand", "", "--bootstrap-server", zoo.bootstrap, "--create", "--topic",
        zoo.name("bad/name!"));
    Zoo.expectEqual(output.code, 1, "exit code");
    return output.want("Topic name is invalid: [^\n]*").group();
  }

  /** A verifiable consumer in a JVM of its own; it prints a JSON line for each event. */
  private static final class Member implements AutoCloseable {
    final Process process;
    final List<String> events = new CopyOnWriteArrayList<>();
    private final Thread listener;

    Member(String topic, String group, String... arguments) throws Exception {
      List<String> all = new ArrayList<>(List.of("--topic", topic, "--group-id", group, "--reset-policy", "earliest", "--verbose"));
      all.addAll(List.of(arguments));
      process = process(TOOLS + "VerifiableConsumer", all.toArray(new String[0])).start();
      listener = new Thread(() -> {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
          for (String line; (line = lines.readLine()) != null; ) events.add(line);
        } catch (java.io.IOException ended) {
          // The stream of a killed process may end in an error.
        }
      });
      listener.start();
    }

    List<String> named(String name) {
      return events.stream().filter(e -> e.contains("\"name\":\"" + name + "\"")).toList();
    }

    /** The partitions of the last assignment. */
    List<String> held() {
      List<String> assigned = named("partitions_assigned");
      return assigned.isEmpty() ? List.of()
          : Pattern.compile("\"partition\":(\\d+)").matcher(assigned.get(assigned.size() - 1)).results().map(m -> m.group(1)).toList();
    }

    // By their handles: a Process that is destroyed closes its pipes, and what it had said last would be lost.
    void stop() throws Exception {
      process.toHandle().destroy();
      process.waitFor();
      listener.join();
    }

    void kill() throws Exception {
      process.toHandle().destroyForcibly();
      process.waitFor();
      listener.join();
    }

    @Override
    public void close() throws Exception {
      kill();
    }
  }

  private static long number(String event, String field) {
    Matcher matcher = Pattern.compile("\"" + field + "\":(\\d+)").matcher(event);
    Zoo.expect(matcher.find(), "no " + field + " in " + event);
    return Long.parseLong(matcher.group(1));
  }

  /** Offset + 1 of the last committed record of each partition. */
  private static Map<Long, Long> committedBy(Member member) {
    Map<Long, Long> committed = new TreeMap<>();
    for (String event : member.named("offsets_committed")) {
      if (!event.contains("\"success\":true")) continue;
      Pattern.compile("\"partition\":(\\d+),\"offset\":(\\d+)").matcher(event).results()
          .forEach(m -> committed.put(Long.valueOf(m.group(1)), Long.valueOf(m.group(2))));
    }
    return committed;
  }

  private static String group(int count) throws Exception {
    String topic = create("group-" + count, Zoo.GROUP_PARTITIONS);
    String group = zoo.name("group-" + count);
    List<Member> members = new ArrayList<>();
    try {
      for (int i = 0; i < count; i++) members.add(new Member(topic, group, "--session-timeout", "6000"));
      Zoo.waitUntil("every member holds partitions", 40, () -> members.stream().noneMatch(m -> m.held().isEmpty())
          && members.stream().mapToInt(m -> m.held().size()).sum() == Zoo.GROUP_PARTITIONS);
      Member victim = count > 1 ? members.get(0) : null;
      if (victim != null) {
        send(topic, keyed(0, 200), "--reader-property", "parse.key=true");
        Zoo.waitUntil("the victim commits", 20, () -> !victim.named("offsets_committed").isEmpty());
        victim.kill();
        send(topic, keyed(200, Zoo.GROUP_RECORDS), "--reader-property", "parse.key=true");
      } else {
        send(topic, keyed(0, Zoo.GROUP_RECORDS), "--reader-property", "parse.key=true");
      }
      Zoo.waitUntil("no lag", 40, () -> lagIsZero(group));
      Map<String, Integer> times = new TreeMap<>();
      Map<Long, Long> committedByVictim = victim == null ? Map.of() : committedBy(victim);
      for (Member member : members) {
        for (String event : member.named("record_data")) {
          // What the victim had printed but not committed comes again, and only that.
          long partition = number(event, "partition");
          if (member == victim && number(event, "offset") >= committedByVictim.getOrDefault(partition, 0L)) continue;
          times.merge(partition + "@" + number(event, "offset"), 1, Integer::sum);
        }
      }
      // Unless its last commit reached the broker and it died before it could say so: then nobody saw them again.
      if (victim != null) {
        for (String event : victim.named("record_data")) {
          times.putIfAbsent(number(event, "partition") + "@" + number(event, "offset"), 1);
        }
      }
      Zoo.expectEqual(times.size(), Zoo.GROUP_RECORDS, "different records seen" + seenBy(members, times));
      Zoo.expect(times.values().stream().allMatch(n -> n == 1), "a record was seen twice: " + times);
      for (Member member : members) if (member != victim) member.stop();
      return times.size() + " records";
    } finally {
      for (Member member : members) member.close();
    }
  }

  /** Who saw how many records, and the offsets seen of each partition: for the message of a failure. */
  private static String seenBy(List<Member> members, Map<String, Integer> times) {
    if (times.size() == Zoo.GROUP_RECORDS) return "";
    Map<Integer, TreeSet<Integer>> offsets = new TreeMap<>();
    for (String seen : times.keySet()) {
      String[] parts = seen.split("@");
      offsets.computeIfAbsent(Integer.valueOf(parts[0]), p -> new TreeSet<>()).add(Integer.valueOf(parts[1]));
    }
    StringBuilder out = new StringBuilder(" (by members ");
    for (Member member : members) out.append(member.named("record_data").size()).append(' ');
    offsets.forEach((p, seen) -> out.append("; partition ").append(p).append(": ").append(seen.size()).append(" of ")
        .append(seen.first()).append('-').append(seen.last()));
    return out.append(')').toString();
  }

  private static String keyed(int from, int to) {
    return text(IntStream.range(from, to).mapToObj(i -> i + "\t" + i).toArray(String[]::new));
  }

  private static boolean lagIsZero(String group) throws Exception {
    List<String> rows = tool(GROUPS, "", "--describe", "--group", group).lines().stream().filter(l -> l.startsWith(group)).toList();
    long sum = 0;
    for (String row : rows) {
      String[] columns = row.trim().split("\\s+");
      if (columns[3].equals("-") || !columns[5].equals("0")) return false;
      sum += Long.parseLong(columns[3]);
    }
    return sum == Zoo.GROUP_RECORDS;
  }

  private static String staticMember() throws Exception {
    String topic = create("static", 4);
    String group = zoo.name("static");
    try (Member a = new Member(topic, group, "--session-timeout", "20000", "--group-instance-id", "a")) {
      List<String> held;
      int before;
      try (Member b = new Member(topic, group, "--session-timeout", "20000", "--group-instance-id", "b")) {
        Zoo.waitUntil("two partitions each", 30, () -> a.held().size() == 2 && b.held().size() == 2);
        held = b.held();
        before = a.named("partitions_assigned").size() + a.named("partitions_revoked").size();
        b.stop();
      }
      try (Member b = new Member(topic, group, "--session-timeout", "20000", "--group-instance-id", "b")) {
        Zoo.waitUntil("partitions for the restarted member", 15, () -> !b.held().isEmpty());
        // A member hears of a rebalance with its next heartbeat, at the latest after three seconds.
        Thread.sleep(3500);
        Zoo.expectEqual(b.held(), held, "partitions of the restarted member");
        Zoo.expectEqual(a.named("partitions_assigned").size() + a.named("partitions_revoked").size(), before,
            "rebalances of the other member");
      }
    }
    return null;
  }

  private interface WithGroup {
    void run(String topic, String group) throws Exception;
  }

  private static void committedGroup(String what, WithGroup body) throws Exception {
    String topic = create(what, 1);
    send(topic, numbers(0, 40));
    read(topic, 10, "--from-beginning", "--group", zoo.name(what));
    body.run(topic, zoo.name(what));
  }

  private static String listGroups() throws Exception {
    committedGroup("list-groups", (topic, group) -> Zoo.expect(tool(GROUPS, "", "--list").lines().contains(group),
        "the group is not listed"));
    return null;
  }

  private static String describeGroup() throws Exception {
    String topic = create("describe-group", 1);
    String group = zoo.name("describe-group");
    try (Member member = new Member(topic, group)) {
      Zoo.waitUntil("the member holds its partition", 20, () -> member.held().size() == 1);
      tool(GROUPS, "", "--describe", "--group", group, "--state").want("\\sStable\\s+1\\s");
      tool(GROUPS, "", "--describe", "--group", group, "--members", "--verbose").want(Pattern.quote(topic));
      member.stop();
    }
    tool(GROUPS, "", "--describe", "--group", group, "--state").want("\\sEmpty\\s+0\\s");
    return null;
  }

  private static String listOffsets() throws Exception {
    committedGroup("list-offsets", (topic, group) -> {
      Zoo.expectEqual(offset(topic, "earliest"), 0L, "earliest offset");
      Zoo.expectEqual(offset(topic, "latest"), 40L, "latest offset");
      tool(GROUPS, "", "--describe", "--group", group).want(Pattern.quote(topic) + "\\s+0\\s+10\\s+40\\s+30\\s");
    });
    return null;
  }

  public static void main(String[] arguments) throws Exception {
    Exit.setExitProcedure((code, message) -> {
      throw new Ended(code);
    });
    String jar = VerifiableProducer.class.getProtectionDomain().getCodeSource().getLocation().getPath();
    zoo = new Zoo("java-tools", jar.replaceFirst(".*-(\\d[^/]*)\\.jar$", "$1"), arguments);
    zoo.run("create_topic", Tools::createTopic);
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) zoo.run("produce_" + codec, () -> produce(codec));
    zoo.run("record_fields", Tools::recordFields);
    zoo.run("null_value", Tools::nullValue);
    zoo.run("idempotent", () -> idempotent("idempotent", 1));
    zoo.run("idempotent_in_flight", () -> idempotent("idempotent-in-flight", 5));
    zoo.run("consume_start", Tools::consumeStart);
    zoo.run("consume_offset", Tools::consumeOffset);
    zoo.run("consume_timestamp", Tools::consumeTimestamp);
    zoo.run("commit_resume", Tools::commitResume);
    zoo.run("describe_configs", Tools::describeConfigs);
    zoo.run("alter_configs", Tools::alterConfigs);
    zoo.run("list_groups", Tools::listGroups);
    zoo.run("describe_group", Tools::describeGroup);
    zoo.run("list_offsets", Tools::listOffsets);
    zoo.run("delete_records", Tools::deleteRecords);
    zoo.run("delete_topic", Tools::deleteTopic);
    zoo.run("error_too_large", Tools::errorTooLarge);
    zoo.run("error_unknown_topic", Tools::errorUnknownTopic);
    zoo.run("error_bad_topic_name", Tools::errorBadTopicName);
    Map<String, Zoo.Body> together = new LinkedHashMap<>();
    for (int n = 1; n <= 4; n++) {
      int members = n;
      together.put("group_" + n, () -> group(members));
    }
    together.put("static_member", Tools::staticMember);
    zoo.runTogether(together);
    System.exit(0);
  }
}

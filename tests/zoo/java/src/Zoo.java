import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What the Java programs of the zoo share: the reporting of checks, test data and waiting. */
final class Zoo {
  static final int GROUP_RECORDS = 400;
  static final int GROUP_PARTITIONS = 8;
  static final int VICTIM_RECORDS = 10;
  static final long BASE_TIME = 1_600_000_000_000L;

  /** The client has no such feature; the text says why. */
  static final class NotOffered extends Exception {
    NotOffered(String why) {
      super(why);
    }
  }

  interface Body {
    /** Returns a remark, or null. */
    String run() throws Exception;
  }

  interface Condition {
    boolean holds() throws Exception;
  }

  final String client;
  final String version;
  String bootstrap;
  List<String> victim;
  private String runId;
  private Set<String> only = Set.of();
  private final PrintStream out = System.out;

  Zoo(String client, String version, String[] arguments) {
    this.client = client;
    this.version = version;
    for (int i = 0; i + 1 < arguments.length; i += 2) {
      switch (arguments[i]) {
        case "--bootstrap" -> bootstrap = arguments[i + 1];
        case "--run-id" -> runId = arguments[i + 1];
        case "--only" -> only = Set.of(arguments[i + 1].split(","));
        case "--victim" -> {
          victim = List.of(arguments[i + 1], arguments[i + 2]);
          i++;
        }
        default -> throw new IllegalArgumentException(arguments[i]);
      }
    }
  }

  String name(String what) {
    return "zoo-" + client + "-" + runId + "-" + what;
  }

  void run(String check, Body body) {
    if (!only.isEmpty() && !only.contains(check)) return;
    long start = System.nanoTime();
    String result = "ok";
    String detail;
    try {
      detail = Objects.requireNonNullElse(body.run(), "");
    } catch (NotOffered reason) {
      result = "n/a";
      detail = reason.getMessage();
    } catch (Throwable error) {
      result = "fail";
      Throwable cause = error.getCause() == null ? error : error.getCause();
      detail = cause.getClass().getSimpleName() + ": " + cause.getMessage();
      for (StackTraceElement frame : error.getStackTrace()) {
        if (Set.of("Clients", "Tools").contains(frame.getClassName())) {
          detail += " (line " + frame.getLineNumber() + ")";
          break;
        }
      }
    }
    Map<String, String> line = new TreeMap<>(Map.of("client", client, "version", version, "check", check, "result",
        result, "detail", detail.substring(0, Math.min(1000, detail.length()))));
    StringBuilder json = new StringBuilder("{");
    line.forEach((key, value) -> json.append(quote(key)).append(": ").append(quote(value)).append(", "));
    json.append("\"ms\": ").append((System.nanoTime() - start) / 1_000_000).append("}");
    synchronized (this) {
      out.println(json);
      out.flush();
    }
  }

  /** Checks that mostly wait run side by side. */
  void runTogether(Map<String, Body> checks) throws InterruptedException {
    List<Thread> threads = new ArrayList<>();
    checks.forEach((check, body) -> threads.add(new Thread(() -> run(check, body))));
    for (Thread thread : threads) thread.start();
    for (Thread thread : threads) thread.join();
  }

  private static String quote(String text) {
    StringBuilder quoted = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') quoted.append('\\').append(c);
      else if (c < ' ' || c > '~') quoted.append(String.format("\\u%04x", (int) c));
      else quoted.append(c);
    }
    return quoted.append('"').toString();
  }

  static void expect(boolean condition, String what) {
    if (!condition) throw new AssertionError(what);
  }

  static void expectEqual(Object got, Object want, String what) {
    if (!Objects.equals(got, want)) throw new AssertionError(what + ": got " + got + ", expected " + want);
  }

  static String expectError(Class<?> wanted, Body body) throws Exception {
    try {
      body.run();
    } catch (Exception error) {
      for (Throwable cause = error; cause != null; cause = cause.getCause()) {
        if (wanted.isInstance(cause)) return cause.getClass().getSimpleName() + ": " + cause.getMessage();
      }
      throw error;
    }
    throw new AssertionError("expected " + wanted.getSimpleName() + ", but it succeeded");
  }

  static void waitUntil(String what, int seconds, Condition condition) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    while (!condition.holds()) {
      if (System.nanoTime() > end) throw new AssertionError("after " + seconds + " s still not: " + what);
      Thread.sleep(20);
    }
  }

  /** Values of many sizes; every other one does not compress. */
  static List<byte[]> payloads() {
    List<byte[]> values = new ArrayList<>();
    for (int size : new int[] {0, 1, 7, 256, 1000, 1000, 10_000, 10_000, 100_000, 100_000}) {
      byte[] value = new byte[size];
      if (values.size() % 2 == 1) new Random(values.size()).nextBytes(value);
      else for (int i = 0; i < size; i++) value[i] = (byte) "millrace ".charAt(i % 9);
      values.add(value);
    }
    return values;
  }

  static List<byte[]> numbers(int from, int to) {
    List<byte[]> values = new ArrayList<>();
    for (int i = from; i < to; i++) values.add(Integer.toString(i).getBytes(StandardCharsets.UTF_8));
    return values;
  }

  static void sameValues(List<byte[]> got, List<byte[]> want) {
    expectEqual(got.size(), want.size(), "number of values");
    for (int i = 0; i < got.size(); i++) {
      expect(java.util.Arrays.equals(got.get(i), want.get(i)), "value " + i + " differs");
    }
  }

  /** Records that a group's members have processed and committed, and who holds how many partitions. */
  static final class Seen {
    final BlockingQueue<String> values = new LinkedBlockingQueue<>();
    final BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();
    final Map<String, Integer> held = new ConcurrentHashMap<>();
    volatile boolean dying;

    boolean balanced(int members) {
      failEarly();
      return held.size() == members && held.values().stream().allMatch(n -> n > 0)
          && held.values().stream().mapToInt(n -> n).sum() == GROUP_PARTITIONS;
    }

    boolean complete() {
      failEarly();
      return Set.copyOf(values).size() == GROUP_RECORDS;
    }

    void failEarly() {
      if (!errors.isEmpty()) throw new AssertionError("a member failed: " + errors.peek(), errors.peek());
    }

    String judge(int members) {
      failEarly();
      expectEqual(values.size(), GROUP_RECORDS, "records seen (more means seen twice)");
      if (members == 1) return values.size() + " records";
      expect(dying, "the victim did not die by itself");
      return values.size() + " records, " + VICTIM_RECORDS + " by the member that was killed";
    }
  }

  /** Starts this program as a member in a JVM of its own. It says "assigned N", "seen VALUE", "dying". */
  Process startVictim(String mainClass, String topic, String group, Seen seen) throws Exception {
    Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp", System.getProperty("java.class.path"),
        mainClass, "--bootstrap", bootstrap, "--run-id", runId, "--victim", topic, group)
        .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    Thread listener = new Thread(() -> {
      try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
        for (String line; (line = lines.readLine()) != null; ) {
          String[] words = line.split(" ");
          if (words[0].equals("assigned")) seen.held.put("victim", Integer.valueOf(words[1]));
          else if (words[0].equals("seen")) seen.values.add(words[1]);
          else if (words[0].equals("dying")) seen.dying = true;
        }
      } catch (java.io.IOException ended) {
        // The stream of a killed process may end in an error.
      }
    });
    listener.setDaemon(true);
    listener.start();
    return process;
  }

  /** Ends this JVM as kill -9 does: no shutdown hook runs, no connection is closed in an orderly way. */
  void die() {
    out.println("dying");
    out.flush();
    Runtime.getRuntime().halt(137);
  }
}

#include "server/config.h"

#include <algorithm>

#include "support/catch.h"

using namespace millrace;
using namespace millrace::server;

namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;

Result<ServerConfig> load(std::string_view text, Variables environment = {},
                          std::vector<std::string> settings = {}) {
  return load_config({"test.properties", text, std::move(environment), std::move(settings)});
}

ServerConfig good(std::string_view text, Variables environment = {}, std::vector<std::string> settings = {}) {
  auto config = load(text, std::move(environment), std::move(settings));
  INFO((config.ok() ? std::string() : config.error().message));
  REQUIRE(config.ok());
  return std::move(*config);
}

std::string fault(std::string_view text, Variables environment = {}, std::vector<std::string> settings = {}) {
  const auto config = load(text, std::move(environment), std::move(settings));
  REQUIRE_FALSE(config.ok());
  CHECK(config.code() == ErrorCode::invalid_config);
  return config.error().message;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

size_t notes_with(const ServerConfig& config, TraceLevel level, std::string_view part) {
  return static_cast<size_t>(
      std::count_if(config.notes().begin(), config.notes().end(),
                    [&](const ConfigNote& n) { return n.level == level && contains(n.message, part); }));
}

// The keys and values of a single combined node as Kafka 4.x ships them.
constexpr std::string_view kStockCombined = R"(
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
)";

}  // namespace

TEST_CASE("nothing given: a single node on the loopback address") {
  const ServerConfig c = good("");
  CHECK(c.node_id == BrokerId(1));
  CHECK_FALSE(c.node_id_given);
  CHECK(c.is_broker);
  CHECK(c.is_controller);
  REQUIRE(c.listeners.size() == 1);
  CHECK(c.listeners[0].name == "PLAINTEXT");
  CHECK(c.listeners[0].address == HostPort{"127.0.0.1", 9092});
  CHECK(c.listeners[0].advertised == HostPort{"127.0.0.1", 9092});
  CHECK(c.controller_listeners.empty());
  CHECK(c.voters.empty());
  REQUIRE(c.admin_listener.has_value());
  CHECK(*c.admin_listener == HostPort{"127.0.0.1", 9644});
  CHECK_FALSE(c.log_dirs.empty());
  CHECK(c.metadata_log_dir == c.log_dirs.front());
  CHECK_FALSE(c.cluster_id.has_value());
  CHECK(c.given().empty());
  CHECK(c.notes().empty());
  CHECK(c.number("min.insync.replicas") == 2);
  CHECK(c.flag("auto.create.topics.enable"));
  CHECK(c.value("listeners").source == ConfigSource::default_value);
}

TEST_CASE("a stock file of a combined node is accepted") {
  const ServerConfig c = good(kStockCombined);
  CHECK(c.node_id == BrokerId(1));
  REQUIRE(c.listeners.size() == 1);
  CHECK(c.listeners[0].address == HostPort{"", 9092});  // every interface, as in Kafka
  CHECK(c.listeners[0].advertised == HostPort{"localhost", 9092});
  REQUIRE(c.controller_listeners.size() == 1);
  CHECK(c.controller_listeners[0].name == "CONTROLLER");
  CHECK(c.controller_listeners[0].address.port == 9093);
  CHECK(c.log_dirs == std::vector<std::string>{"/tmp/kraft-combined-logs"});
  CHECK(c.recovery_threads == 1);
  CHECK(c.number("offsets.topic.replication.factor") == 1);
  CHECK(c.value("node.id").source == ConfigSource::file);
  CHECK(c.value("node.id").origin == "test.properties:3");
  CHECK(c.given().at("num.network.threads") == "3");
  // One line on what has no effect, one on the open door.
  CHECK(notes_with(c, TraceLevel::warn, "num.io.threads, num.network.threads") == 1);
  CHECK(notes_with(c, TraceLevel::warn, "no authentication") == 1);
  CHECK(c.notes().size() == 2);
}

TEST_CASE("stronger sources win, and each value knows where it came from") {
  const std::string_view file = "num.partitions=3\nlog.level=warn\nloops=2\nbroker.rack=a\n";
  const ServerConfig c = good(file,
                              {{"KAFKA_LOG_LEVEL", "error"},
                               {"KAFKA_LOOPS", "3"},
                               {"MILLRACE_LOOPS", "4"},
                               {"KAFKA_BROKER_RACK", "b"},
                               {"PATH", "/bin"}},
                              {"broker.rack=c", "broker.rack = d"});
  CHECK(c.number("num.partitions") == 3);
  CHECK(c.value("num.partitions").source == ConfigSource::file);
  CHECK(c.log_level == TraceLevel::error);
  CHECK(c.value("log.level").source == ConfigSource::environment);
  CHECK(c.value("log.level").origin == "KAFKA_LOG_LEVEL");
  CHECK(c.loops == 4);
  CHECK(c.value("loops").origin == "MILLRACE_LOOPS");
  CHECK(c.rack == "d");
  CHECK(c.value("broker.rack").source == ConfigSource::command_line);
  CHECK(c.given().size() == 4);
  CHECK(config_source_name(c.value("broker.rack").source) == "command line");
}

TEST_CASE("variables and the properties they stand for") {
  CHECK(property_of_variable("KAFKA_LOG_DIRS") == "log.dirs");
  CHECK(property_of_variable("MILLRACE_ADMIN_LISTENER") == "admin.listener");
  CHECK(property_of_variable("KAFKA_LISTENER_NAME_MY__CLIENT_SCRAM___SHA___256_X") ==
        "listener.name.my_client.scram-sha-256.x");
  for (const char* none : {"PATH",
                           "KAFKA",
                           "KAFKA_",
                           "KAFKA_HEAP_OPTS",
                           "KAFKA_OPTS",
                           "KAFKA_JVM_PERFORMANCE_OPTS",
                           "KAFKA_LOG4J_OPTS",
                           "KAFKA_LOG4J_ROOT_LOGLEVEL",
                           "KAFKA_TOOLS_LOG4J_LOGLEVEL",
                           "KAFKA_JMX_PORT",
                           "KAFKA_JMX_OPTS",
                           "KAFKA_HOME",
                           "KAFKA_VERSION",
                           "KAFKA_GC_LOG_OPTS",
                           "MILLRACE_CONFIG",
                           "KAFKA_SERVICE_HOST",
                           "KAFKA_SERVICE_PORT_BROKER",
                           "KAFKA_PORT",
                           "KAFKA_PORT_9092_TCP_ADDR",
                           "MILLRACE_PORT_9644_TCP"}) {
    INFO(none);
    CHECK_FALSE(property_of_variable(none).has_value());
  }
}

TEST_CASE("CLUSTER_ID counts when nothing else gives the id") {
  CHECK(good("", {{"CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"}}).cluster_id == "4L6g3nShT-eMCtK--X86sw");
  CHECK(good("cluster.id=5L6g3nShT-eMCtK--X86sw", {{"CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"}}).cluster_id ==
        "5L6g3nShT-eMCtK--X86sw");
}

TEST_CASE("an unknown key is an error with the nearest one") {
  CHECK(contains(fault("log.dir=/a\nlog.dri=/b"),
                 "test.properties:2: no key is called log.dri; did you mean log.dir?"));
  CHECK(contains(fault("advertised.listener=PLAINTEXT://a:1"), "did you mean advertised.listeners?"));
  CHECK(contains(fault("", {{"KAFKA_NUM_PARTITION", "1"}}),
                 "KAFKA_NUM_PARTITION: no key is called num.partition; did you mean num.partitions?"));
  CHECK(contains(fault("", {}, {"node.idd=1"}), "--set: no key is called node.idd; did you mean node.id?"));
  const std::string strange = fault("colour.of.the.sky=blue");
  CHECK(contains(strange, "colour.of.the.sky"));
  CHECK_FALSE(contains(strange, "did you mean"));
  CHECK(nearest_key("").empty());
  CHECK(nearest_key(std::string(5000, 'a')).empty());
}

TEST_CASE("a topic key in the broker's file names the broker's key") {
  CHECK(contains(fault("retention.ms=1000"),
                 "retention.ms is a topic key; the broker's default for it is log.retention.ms"));
}

TEST_CASE("another program's variable is only mentioned") {
  const ServerConfig c = good("", {{"KAFKA_MIRRORED_BY_SOMEBODY_ELSE_ENTIRELY", "1"}});
  CHECK(notes_with(c, TraceLevel::warn, "KAFKA_MIRRORED_BY_SOMEBODY_ELSE_ENTIRELY is ignored") == 1);
}

TEST_CASE("keys that other versions and vendors know are one warning") {
  const ServerConfig c = good(
      "zookeeper.connect=localhost:2181\nconfluent.support.metrics.enable=false\ninter.broker.protocol."
      "version=3.6\n"
      "num.io.threads=8\n");
  CHECK(c.notes().size() == 1);
  CHECK(notes_with(c, TraceLevel::warn,
                   "confluent.support.metrics.enable, inter.broker.protocol.version, num.io.threads, "
                   "zookeeper.connect") == 1);
}

TEST_CASE("every fault is told at once") {
  const std::string all =
      fault("num.partitions=many\nloops=-1\nlog.level=loud\nauto.create.topics.enable=maybe\nfoo\n", {},
            {"nonsense", "=1"});
  CHECK(std::count(all.begin(), all.end(), '\n') == 6);
  CHECK(contains(all, "test.properties:1: "));
  CHECK(contains(all, "num.partitions"));
  CHECK(contains(all, "test.properties:2: "));
  CHECK(contains(all, "must be at least 0"));
  CHECK(contains(all, "log.level"));
  CHECK(contains(all, "auto.create.topics.enable"));
  CHECK(contains(all, "--set nonsense: expected key=value"));
}

TEST_CASE("a malformed file is an error that names it") {
  CHECK(contains(fault("a=\\u1"), "test.properties: line 1"));
}

TEST_CASE("the last of two equal keys counts, with a warning") {
  const ServerConfig c = good("num.partitions=1\nnum.partitions=bad\nnum.partitions=3\n");
  CHECK(c.number("num.partitions") == 3);
  CHECK(notes_with(c, TraceLevel::warn, "num.partitions stands on lines 1 and 2") == 1);
  CHECK(notes_with(c, TraceLevel::warn, "num.partitions stands on lines 2 and 3") == 1);
}

TEST_CASE("node.id and its older spelling") {
  CHECK(good("broker.id=7").node_id == BrokerId(7));
  CHECK(good("node.id=8").node_id == BrokerId(8));
  CHECK(good("node.id=0").node_id == BrokerId(0));
  CHECK(good("node.id=0").node_id_given);
  CHECK(good("node.id=8\nbroker.id=8").node_id == BrokerId(8));
  CHECK_FALSE(good("broker.id=-1").node_id_given);
  CHECK(contains(fault("node.id=8\nbroker.id=9"), "differ"));
  CHECK(contains(fault("node.id=-2"), "node.id"));
  CHECK(contains(fault("node.id=2147483648"), "node.id"));
}

TEST_CASE("data directories") {
  CHECK(good("log.dir=/a").log_dirs == std::vector<std::string>{"/a"});
  CHECK(good("log.dir=/a\nlog.dirs=/b, /c").log_dirs == std::vector<std::string>{"/b", "/c"});
  const ServerConfig c = good("log.dirs=/b,/c\nmetadata.log.dir=/m");
  CHECK(c.metadata_log_dir == "/m");
  CHECK(good("log.dirs=/b,/c").metadata_log_dir == "/b");
  CHECK(contains(fault("log.dirs=/b,/b"), "/b"));
  CHECK(contains(fault("log.dirs="), "at least one"));
  CHECK(contains(fault("log.dirs=/b,,/c"), "empty"));
}

TEST_CASE("synonyms: a given spelling beats a default") {
  const ServerConfig c = good("log.retention.minutes=5");
  CHECK(c.effective("log.retention.ms").text == "5");
  CHECK(c.effective("log.retention.ms").origin == "test.properties:1");
  CHECK(good("").effective("log.retention.ms").text == "168");
  CHECK(good("log.retention.hours=1\nlog.retention.ms=9").effective("log.retention.ms").text == "9");
}

TEST_CASE("what is advertised") {
  const ServerConfig all = good(
      "listeners=PLAINTEXT://:9092,OTHER://0.0.0.0:9093,THIRD://10.0.0.1:9094\n"
      "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT,THIRD:PLAINTEXT\n");
  REQUIRE(all.listeners.size() == 3);
  CHECK(all.listeners[0].advertised == HostPort{"", 9092});
  CHECK(all.listeners[1].address == HostPort{"0.0.0.0", 9093});
  CHECK(all.listeners[1].advertised == HostPort{"", 9093});
  CHECK(all.listeners[2].advertised == HostPort{"10.0.0.1", 9094});
  CHECK(good("advertised.listeners=PLAINTEXT://outside:19092").listeners[0].advertised ==
        HostPort{"outside", 19092});
  CHECK(contains(fault("advertised.listeners=CLIENT://outside:19092"), "no listener is called CLIENT"));
  CHECK(contains(fault("advertised.listeners=PLAINTEXT://0.0.0.0:9092"), "0.0.0.0"));
  CHECK(contains(fault("advertised.listeners=outside:9092"), "test.properties:1: advertised.listeners: "));
}

TEST_CASE("listeners of a stronger source replace what a weaker one advertises") {
  const ServerConfig c = good(
      "advertised.listeners=PLAINTEXT://localhost:9092\nlisteners=PLAINTEXT://:9092",
      {{"KAFKA_LISTENERS", "SSL://127.0.0.1:1"}, {"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "SSL:PLAINTEXT"}});
  REQUIRE(c.listeners.size() == 1);
  CHECK(c.listeners[0].advertised == HostPort{"127.0.0.1", 1});
  CHECK(notes_with(c, TraceLevel::warn, "names PLAINTEXT, which is no listener any more") == 1);
}

TEST_CASE("two client listeners, inside and outside") {
  const ServerConfig c = good(
      "listeners=INSIDE://127.0.0.1:29092,OUTSIDE://127.0.0.1:9092\n"
      "advertised.listeners=INSIDE://broker:29092,OUTSIDE://localhost:9092\n"
      "listener.security.protocol.map=inside:PLAINTEXT,outside:PLAINTEXT\ninter.broker.listener.name="
      "INSIDE\n");
  REQUIRE(c.listeners.size() == 2);
  CHECK(c.listeners[0].advertised == HostPort{"broker", 29092});
  CHECK(notes_with(c, TraceLevel::warn, "inter.broker.listener.name") == 1);
}

TEST_CASE("listeners that cannot be served are refused in words") {
  for (const char* protocol : {"SSL", "SASL_PLAINTEXT", "SASL_SSL"}) {
    const std::string message = fault(std::string("listeners=") + protocol + "://:9093");
    CHECK(contains(message, std::string(protocol) + " speaks " + protocol + ", which is not served yet"));
  }
  CHECK(
      contains(fault("listeners=CLIENT://:9092"), "add CLIENT:PLAINTEXT to listener.security.protocol.map"));
  CHECK(contains(fault("listeners="), "a broker needs a listener"));
  CHECK(contains(fault("listeners=CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER"),
                 "a broker needs a listener"));
  CHECK(contains(fault("inter.broker.listener.name=INSIDE"), "INSIDE"));
  CHECK(contains(fault("listeners=PLAINTEXT://:99999"), "port"));
}

TEST_CASE("listener.name keys") {
  const ServerConfig c = good("listener.name.plaintext.max.connections=5\nmax.connections=9\n");
  CHECK(c.listener_value("PLAINTEXT", "max.connections") == "5");
  CHECK(c.listener_value("OTHER", "max.connections") == "9");
  CHECK(c.given().at("listener.name.plaintext.max.connections") == "5");
  CHECK(notes_with(good("listener.name.client.max.connections=5"), TraceLevel::warn,
                   "no listener is called CLIENT") == 1);
  CHECK(notes_with(good("listener.name.plaintext.scram-sha-256.sasl.jaas.config=x;"), TraceLevel::warn,
                   "without effect") == 1);
  CHECK(contains(fault("listener.name.plaintext.max.conections=5"), "did you mean max.connections?"));
  CHECK(contains(fault("listener.name.plaintext.max.connections=x"), "max.connections"));
  CHECK(contains(fault("listener.name.plaintext=5"), "listener.name.<listener>.<key>"));
  CHECK(contains(fault("listener.name..max.connections=5"), "listener.name.<listener>.<key>"));
}

TEST_CASE("the quorum") {
  const ServerConfig c = good(
      "node.id=2\nlisteners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
      "controller.listener.names=CONTROLLER\n"
      "controller.quorum.voters=1@a:9093,2@b:9093,3@[::1]:9093\ncontroller.quorum.bootstrap.servers=a:9093,b:"
      "9093\n");
  REQUIRE(c.voters.size() == 3);
  CHECK(c.voters[2].id == BrokerId(3));
  CHECK(c.voters[2].address == HostPort{"::1", 9093});
  CHECK(c.bootstrap_controllers.size() == 2);
  CHECK(c.controller_listeners.size() == 1);
  CHECK(contains(fault("node.id=4\ncontroller.quorum.voters=1@a:9093"), "node.id 4 is not among the voters"));
  CHECK(contains(fault("controller.quorum.voters=1@a:1,1@b:1"), "twice"));
  for (const char* voter : {"a:9093", "x@a:9093", "-1@a:9093", "1@a", "1@a:99999", "4294967296@a:1"}) {
    INFO(voter);
    CHECK(contains(fault(std::string("controller.quorum.voters=") + voter), "id@host:port"));
  }
  CHECK(
      contains(fault("controller.quorum.bootstrap.servers=nowhere"), "controller.quorum.bootstrap.servers"));
  CHECK(contains(fault("node.id=1\ncontroller.quorum.voters=1@a:1,2@b:1"), "needs a listener of its own"));
}

TEST_CASE("roles") {
  const ServerConfig c = good(
      "process.roles=controller\nnode.id=3\nlisteners=CONTROLLER://"
      "127.0.0.1:9093\ncontroller.listener.names=CONTROLLER\n"
      "controller.quorum.voters=3@127.0.0.1:9093\n");
  CHECK_FALSE(c.is_broker);
  CHECK(c.listeners.empty());
  CHECK(c.controller_listeners.size() == 1);
  CHECK(contains(fault("process.roles=controller"), "needs a listener of its own"));
  CHECK(contains(fault("process.roles=controller\nlisteners=PLAINTEXT://:1,CONTROLLER://:2\n"
                       "controller.listener.names=CONTROLLER"),
                 "this node is no broker"));
  const ServerConfig b = good(
      "process.roles=broker\nnode.id=4\nlisteners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
      "controller.listener.names=CONTROLLER\ncontroller.quorum.voters=3@127.0.0.1:9094\n");
  CHECK_FALSE(b.is_controller);
  CHECK(b.controller_listeners.size() == 1);
  CHECK(contains(fault("process.roles=broker\nnode.id=4\ncontroller.quorum.voters=3@127.0.0.1:9094"),
                 "other nodes reach it there"));
  CHECK(contains(fault("process.roles="), "process.roles"));
  CHECK(contains(fault("process.roles=leader"), "process.roles"));
}

TEST_CASE("the admin listener") {
  CHECK(*good("admin.listener=:8000").admin_listener == HostPort{"", 8000});
  CHECK_FALSE(good("admin.listener=").admin_listener.has_value());
  CHECK(contains(fault("admin.listener=here"), "test.properties:1: admin.listener"));
}

TEST_CASE("values are trimmed, as Kafka does") {
  const ServerConfig c = good("num.partitions=3   \nbroker.rack=\ta b \n");
  CHECK(c.number("num.partitions") == 3);
  CHECK(c.rack == "a b");
}

TEST_CASE("a file that is not there") {
  const auto text = read_config_file("/nonexistent/millrace.properties");
  REQUIRE_FALSE(text.ok());
  CHECK(text.code() == ErrorCode::not_found);
  CHECK(contains(text.error().message, "/nonexistent/millrace.properties"));
  CHECK_FALSE(read_config_file("/").ok());
}

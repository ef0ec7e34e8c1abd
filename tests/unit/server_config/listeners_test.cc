#include "server/listeners.h"

#include "support/catch.h"

using namespace millrace::server;

TEST_CASE("host and port") {
  CHECK(*parse_host_port("broker1:9092") == HostPort{"broker1", 9092});
  CHECK(*parse_host_port(":9092") == HostPort{"", 9092});
  CHECK(*parse_host_port("0.0.0.0:0") == HostPort{"0.0.0.0", 0});
  CHECK(*parse_host_port("[::1]:65535") == HostPort{"::1", 65535});
  CHECK(parse_host_port("[::1]:9092")->to_string() == "[::1]:9092");
  CHECK(parse_host_port("a.b:1")->to_string() == "a.b:1");
}

TEST_CASE("what is no address is refused") {
  for (const char* text :
       {"", "broker", "broker:", "broker:x", "broker:65536", "broker:-1", "broker:+1", "broker:000001",
        "::1:9092", "[broker]:1", "[::1:1", "a b:1", "a/b:1", "user@host:1", "host:1 "}) {
    INFO(text);
    CHECK_FALSE(parse_host_port(text).ok());
  }
  CHECK_FALSE(parse_host_port(std::string(256, 'a') + ":1").ok());
}

TEST_CASE("listeners") {
  const auto two = parse_listeners("listeners", " PLAINTEXT://:9092 , internal://[::1]:19092");
  REQUIRE(two.ok());
  REQUIRE(two->size() == 2);
  CHECK((*two)[0] == ListenerAddress{"PLAINTEXT", {"", 9092}});
  CHECK((*two)[1] == ListenerAddress{"INTERNAL", {"::1", 19092}});
  CHECK(parse_listeners("listeners", "")->empty());
  CHECK(parse_listeners("listeners", "A://:0,B://:0").ok());
  CHECK(parse_listeners("advertised.listeners", "A://h:9092,B://h:9092").ok());
}

TEST_CASE("bad listeners are refused and the key is named") {
  for (const char* text : {"9092", ":9092", "PLAINTEXT:9092", "PLAINTEXT://", "://h:1", "A B://h:1",
                           "A://h:1,,B://h:2", "A://h:1,a://h:2", "A://h:1,B://h:1", "A://h:port"}) {
    INFO(text);
    const auto parsed = parse_listeners("listeners", text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().message.find("listeners: ") == 0);
  }
  std::string many = "L://:0";
  for (int i = 0; i < 64; ++i) many += ",L" + std::to_string(i) + "://:0";
  CHECK_FALSE(parse_listeners("listeners", many).ok());
}

TEST_CASE("the protocol map") {
  const auto map = parse_protocol_map("internal:plaintext,CLIENT:SASL_SSL");
  REQUIRE(map.ok());
  CHECK(map->at("INTERNAL") == SecurityProtocol::plaintext);
  CHECK(map->at("CLIENT") == SecurityProtocol::sasl_ssl);
  CHECK(security_protocol_name(map->at("CLIENT")) == "SASL_SSL");
  for (const char* text : {"A", "A:TLS", "A:", "A:SSL,a:SSL"}) {
    INFO(text);
    CHECK_FALSE(parse_protocol_map(text).ok());
  }
}

TEST_CASE("addresses with a meaning") {
  CHECK(is_wildcard(""));
  CHECK(is_wildcard("0.0.0.0"));
  CHECK(is_wildcard("::"));
  CHECK_FALSE(is_wildcard("10.0.0.1"));
  CHECK(is_loopback("127.0.0.1"));
  CHECK(is_loopback("127.1.2.3"));
  CHECK(is_loopback("::1"));
  CHECK(is_loopback("localhost"));
  CHECK_FALSE(is_loopback(""));
  CHECK_FALSE(is_loopback("0.0.0.0"));
  CHECK_FALSE(is_loopback("12.7.0.0"));
}

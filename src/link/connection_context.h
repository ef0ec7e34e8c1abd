// What is known of one client connection. Lives on the connection's loop.
#pragma once

#include <cstdint>
#include <string>

#include "io/loop.h"
#include "io/network.h"

namespace millrace::link {

struct ConnectionContext {
  uint64_t id = 0;
  io::Loop* loop = nullptr;
  size_t loop_index = 0;
  std::string listener;  // the listener's name: replies advertise addresses of the same listener
  io::Endpoint peer;
  io::Endpoint local;
  // From ApiVersions v3+ (KIP-511); empty until then, and for ever with older clients.
  std::string software_name;
  std::string software_version;
  bool asked_metadata = false;  // of topics by name: the next question is for news
};

}  // namespace millrace::link

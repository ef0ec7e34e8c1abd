// How many brokers one process may hold.
#pragma once

namespace millrace::server {

inline constexpr int kEmbeddedBrokersMax = 9;

}  // namespace millrace::server

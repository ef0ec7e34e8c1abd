// What a service supervisor is told (systemd's Type=notify): a datagram to the socket in NOTIFY_SOCKET.
// Nothing happens without one.
#pragma once

#include <string_view>

namespace millrace::server {

/// E.g. "READY=1", "STOPPING=1"; lines separated by newlines.
void notify_service(std::string_view state);

}  // namespace millrace::server

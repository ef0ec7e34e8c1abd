#include "server/spdlog_sink.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace millrace::server {
namespace {

spdlog::level::level_enum spdlog_level(TraceLevel level) {
  switch (level) {
    case TraceLevel::debug:
      return spdlog::level::debug;
    case TraceLevel::info:
      return spdlog::level::info;
    case TraceLevel::warn:
      return spdlog::level::warn;
    case TraceLevel::error:
      return spdlog::level::err;
    case TraceLevel::off:
      break;
  }
  return spdlog::level::off;
}

class SpdlogSink final : public TraceSink {
 public:
  SpdlogSink() : logger_("millrace", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger_.set_level(spdlog::level::debug);  // Trace has filtered already
    logger_.set_pattern("%Y-%m-%d %H:%M:%S.%e %-5l %v");
    logger_.flush_on(spdlog::level::debug);
  }
  void write(TraceLevel level, std::string_view component, std::string_view message) override {
    logger_.log(spdlog_level(level), "{:<9} {}", component, message);
  }

 private:
  spdlog::logger logger_;
};

}  // namespace

std::unique_ptr<TraceSink> make_spdlog_sink() {
  return std::make_unique<SpdlogSink>();
}

}  // namespace millrace::server

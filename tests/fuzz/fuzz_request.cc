// Any bytes as the content of a request frame: the header, then the body at the version it names. What
// decodes must encode to bytes that decode and encode to themselves. The responses and stored records are
// reached by a first byte: below 128 it is the frame's own, from 128 on a message is chosen by the bytes that
// follow.
#include <cstdint>
#include <cstdlib>
#include <map>

#include "support/wire_cases.h"
#include "wire/headers.h"

using millrace::Bytes;
using millrace::MutableByteView;
namespace wire = millrace::wire;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void recode_twice(const wire::cases::MessageCase& c, MutableByteView body, int16_t version) {
  wire::cases::Recoded once = c.recode(body, version);
  if (!once.status.ok()) return;
  const wire::cases::Recoded twice = c.recode(once.bytes, version);
  require(twice.status.ok());
  require(twice.used == once.bytes.size());
  require(twice.bytes == once.bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<wire::cases::MessageCase> cases = wire::cases::all_cases();
  static const std::map<int, const wire::cases::MessageCase*> requests = [] {
    std::map<int, const wire::cases::MessageCase*> out;
    for (const auto& c : cases) {
      if (c.key >= 0) out[c.key] = &c;
    }
    return out;
  }();
  Bytes frame(data, data + size);
  if (size >= 3 && data[0] >= 128) {
    const auto& c = cases[(static_cast<size_t>(data[0] & 1) << 8 | data[1]) % cases.size()];
    const auto version = static_cast<int16_t>(c.min + data[2] % (c.max - c.min + 1));
    recode_twice(c, MutableByteView(frame).subspan(3), version);
    return 0;
  }
  wire::Reader reader(frame);
  const millrace::Result<wire::RequestHeader> header = wire::decode_request_header(reader);
  if (!header.ok()) return 0;
  wire::Writer w;
  wire::encode_request_header(w, *header);
  Bytes again = w.take_bytes();
  wire::Reader second(again);
  const millrace::Result<wire::RequestHeader> same = wire::decode_request_header(second);
  require(same.ok() && *same == *header);
  const auto request = requests.find(header->request_api_key);
  if (request == requests.end()) return 0;
  recode_twice(*request->second, MutableByteView(frame).subspan(reader.position()),
               header->request_api_version);
  return 0;
}

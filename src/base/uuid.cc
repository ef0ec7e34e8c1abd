#include "base/uuid.h"

#include "base/endian.h"

namespace millrace {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kTextSize = 22;

}  // namespace

std::string Uuid::to_string() const {
  std::string out;
  out.reserve(kTextSize);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = (group << 8) | (i + j < bytes.size() ? bytes[i + j] : 0u);
    const size_t digits = i + 3 <= bytes.size() ? 4 : 2;  // the last group holds one byte
    for (size_t d = 0; d < digits; ++d) out.push_back(kAlphabet[(group >> (18 - 6 * d)) & 63]);
  }
  ASSERT(out.size() == kTextSize);
  return out;
}

Result<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != kTextSize) return Error(ErrorCode::parse_error, "a uuid has 22 characters");
  Uuid out;
  uint32_t bits = 0;
  size_t have = 0;
  size_t n = 0;
  for (const char c : text) {
    const size_t digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return Error(ErrorCode::parse_error, "not a base64url character");
    bits = (bits << 6) | static_cast<uint32_t>(digit);
    have += 6;
    if (have >= 8 && n < out.bytes.size()) {
      have -= 8;
      out.bytes[n++] = static_cast<uint8_t>(bits >> have);
    }
  }
  if (n != out.bytes.size() || (bits & ((1u << have) - 1)) != 0) {
    return Error(ErrorCode::parse_error, "not a uuid");
  }
  return out;
}

Uuid Uuid::from_random(std::array<uint8_t, 16> random) {
  Uuid out{random};
  out.bytes[6] = static_cast<uint8_t>((out.bytes[6] & 0x0f) | 0x40);
  out.bytes[8] = static_cast<uint8_t>((out.bytes[8] & 0x3f) | 0x80);
  if ((out.bytes[0] >> 2) == 62) out.bytes[0] = static_cast<uint8_t>(out.bytes[0] & 0x7f);  // no leading '-'
  return out;
}

}  // namespace millrace

size_t std::hash<millrace::Uuid>::operator()(const millrace::Uuid& u) const noexcept {
  const auto hi = millrace::load_be<uint64_t>(u.bytes.data());
  const auto lo = millrace::load_be<uint64_t>(u.bytes.data() + 8);
  return static_cast<size_t>(hi ^ (lo * 0x9e3779b97f4a7c15ull));
}

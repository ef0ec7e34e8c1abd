// Result<T>: a value or an Error. Nodiscard; no exception crosses a room.
#pragma once

#include <type_traits>
#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/error.h"

namespace millrace {

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  Result(ErrorCode code) : v_(std::in_place_index<1>, Error(code)) {}

  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    ASSERT(ok());
    return *std::get_if<0>(&v_);
  }
  const T& value() const& {
    ASSERT(ok());
    return *std::get_if<0>(&v_);
  }
  T&& value() && {
    ASSERT(ok());
    return std::move(*std::get_if<0>(&v_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    ASSERT(!ok());
    return *std::get_if<1>(&v_);
  }
  Error error() && {
    ASSERT(!ok());
    return std::move(*std::get_if<1>(&v_));
  }
  ErrorCode code() const { return ok() ? ErrorCode::none : std::get_if<1>(&v_)->code; }

 private:
  std::variant<T, Error> v_;
};

/// Result<void>: done, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  Result(ErrorCode code) : error_(code) {}

  bool ok() const { return error_.code == ErrorCode::none; }
  explicit operator bool() const { return ok(); }
  const Error& error() const& {
    ASSERT(!ok());
    return error_;
  }
  Error error() && {
    ASSERT(!ok());
    return std::move(error_);
  }
  ErrorCode code() const { return error_.code; }

 private:
  Error error_{ErrorCode::none};
};

using Status = Result<void>;

}  // namespace millrace

/// Returns the Error of a failed Result/Status from the enclosing function. Not for coroutines.
#define TRY(expression)                                           \
  do {                                                            \
    auto try_result_ = (expression);                              \
    if (!try_result_.ok()) return std::move(try_result_).error(); \
  } while (false)

#define MILLRACE_CONCAT_(a, b) a##b
#define MILLRACE_CONCAT(a, b) MILLRACE_CONCAT_(a, b)
/// TRY_ASSIGN(auto x, f()): x = value of f(), or return its Error.
#define TRY_ASSIGN(declaration, expression) \
  TRY_ASSIGN_(MILLRACE_CONCAT(try_result_, __LINE__), declaration, expression)
#define TRY_ASSIGN_(temporary, declaration, expression)     \
  auto temporary = (expression);                            \
  if (!temporary.ok()) return std::move(temporary).error(); \
  declaration = std::move(temporary).value()

// A decision in the making: the image as the request has changed it so far, and the records that did.
#pragma once

#include <vector>

#include "base/assert.h"
#include "meta/image.h"

namespace millrace::control {

class Draft {
 public:
  explicit Draft(const meta::Image& image) : image_(image) {}

  const meta::Image& image() const { return image_; }

  void add(meta::Record record) {
    const Status fits = image_.apply(record);
    ASSERT(fits.ok());
    records_.push_back(std::move(record));
  }
  std::vector<meta::Record> take() { return std::move(records_); }

 private:
  meta::Image image_;
  std::vector<meta::Record> records_;
};

}  // namespace millrace::control

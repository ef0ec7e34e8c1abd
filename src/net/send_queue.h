// What a stream still has to send: payloads in order, written with as few system calls as possible.
//
// Slices and small file regions are gathered into one sendmsg; a region of kSendfileMin and more that is in
// the page cache goes out by sendfile. A region that would have to be read from the disk is reported as cold:
// the stream has it read elsewhere and supplies the bytes.
#pragma once

#include <deque>
#include <memory>

#include "base/bytes.h"
#include "base/result.h"
#include "io/disk.h"
#include "net/buffer_pool.h"

namespace millrace::net {

class SendQueue {
 public:
  static constexpr size_t kSendfileMin = 64 * 1024;
  static constexpr size_t kColdReadMax = 512 * 1024;

  enum class Progress {
    drained,  // nothing is left
    blocked,  // the socket takes no more
    yielded,  // enough for one turn
    cold,     // cold_read() first
    broken,   // the socket or a file failed
  };
  struct ColdRead {
    std::shared_ptr<const io::File> file;
    uint64_t position = 0;
    size_t length = 0;
  };

  void push(Payload payload);
  void clear();
  /// Not yet taken by the kernel.
  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  /// Sends what the non-blocking `socket` takes. `why` is set when broken.
  Progress write_to(int socket, BufferPool& buffers, bool sendfile, Status& why);
  /// After `cold`: what to read, at the front of the queue.
  ColdRead cold_read() const;
  /// The bytes of cold_read(), all of them.
  void supply(Slice bytes);

 private:
  struct Gathered;

  bool at_region() const;
  const io::FileRegion& region() const;
  size_t front_left() const;
  void consume(size_t n);

  std::deque<Payload> payloads_;
  size_t piece_ = 0;           // of the first payload
  size_t offset_ = 0;          // sent of that piece
  Slice supplied_;             // stands for the next bytes of the region at the front
  bool known_cached_ = false;  // the region at the front was found in the page cache
  size_t bytes_ = 0;
};

}  // namespace millrace::net
